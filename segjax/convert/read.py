"""Weight files of any kind as {name: array}."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from segjax.convert.prefixes import unwrapped
from segjax.convert.pytorch_file import read_pytorch
from segjax.core.errors import WeightsError

_LONGEST_HEADER = 100_000_000  # bytes, by the safetensors format
_DTYPES = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"}
# What else people have under these names: first bytes, and what to do.
_OTHERS = (
    (b"version https://git-lfs", "a Git LFS pointer; fetch the file it stands for"),
    (b"<", "a web page; fetch the file again"),
    (b"\x89HDF", "an HDF5 file, such as Keras writes; save its arrays as npz under PyTorch's names"),
    (b"\x93NUMPY", "a single npy array; save all arrays by name as npz"),
    (b"\x1f\x8b", "a gzip file; unpack it"),
)


def read_weights(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a PyTorch file (zip or legacy), a safetensors file or an npz, told apart by their content.

    Nothing in the file is executed. What DataParallel, torch.compile and their like put into names, such as `module.`
    and `_orig_mod.`, is taken out.

    Raises:
      WeightsError: in one line, what is wrong with the file.
    """
    path = Path(path)
    if path.is_dir():
        raise WeightsError(f"{path} is a folder; give the file of weights in it.")
    if not path.is_file():
        raise WeightsError(f"{path}: no such file.")
    try:
        tensors = _read(path)
    except (OSError, MemoryError) as error:
        raise WeightsError(f"{path} cannot be read: {error}.") from error
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, KeyError, ValueError, struct.error) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path} is cut off or damaged: {what}.") from error
    if not tensors:
        raise WeightsError(f"{path}: no tensors in it.")
    return unwrapped(tensors, str(path))


def _read(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file:
        head = file.read(64)
        size = path.stat().st_size
        if not head:
            raise WeightsError(f"{path} is empty; fetch it again.")
        # safetensors first: eight bytes of any kind, then JSON, which no other kind has there.
        if _begins_as_safetensors(head):
            length = int.from_bytes(head[:8], "little")
            file.seek(8)
            return _read_safetensors(path, file.read(length), length, size)
        zipped = head.startswith(b"PK") and zipfile.is_zipfile(file)
    if zipped:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        return _read_npz(path) if all(name.endswith(".npy") for name in names) else read_pytorch(path)
    if head.startswith(b"PK"):
        raise WeightsError(f"{path} is cut off: a zip file without its end; fetch it again.")
    if head.startswith(b"\x80"):
        return read_pytorch(path)
    kind = next((f": {what}" for start, what in _OTHERS if head.lstrip().startswith(start)), "")
    raise WeightsError(f"{path}: neither a PyTorch file, nor safetensors, nor npz{kind}.")


def _begins_as_safetensors(head: bytes) -> bool:
    """A length within the format's limit, whatever its bytes, and the brace of a JSON object."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _LONGEST_HEADER


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        if "allow_pickle" in str(error):
            raise WeightsError(f"{path} holds a numpy object array, which is a pickle: refused.") from error
        raise WeightsError(f"{path} is cut off or damaged: {error}.") from error


def _read_safetensors(path: Path, header: bytes, length: int, size: int) -> dict[str, np.ndarray]:
    if len(header) < length:
        raise WeightsError(f"{path} is cut off: a safetensors file of {size} bytes, its header alone has {length}.")
    try:
        entries = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
        kinds = {entry["dtype"] for name, entry in entries.items() if name != "__metadata__"}
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise WeightsError(f"{path} is cut off or damaged: a safetensors file with a broken header.") from error
    missing = max(ends, default=0) - (size - 8 - length)
    if missing > 0:
        raise WeightsError(f"{path} is cut off: {missing} bytes of its tensors are missing; fetch it again.")
    strange = sorted(kinds - _DTYPES)
    if strange:
        raise WeightsError(
            f"{path}: tensors of type {strange[0]}, which is not read; save them as float32 or bfloat16."
        )
    try:
        tensors = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError, TypeError, KeyError) as error:
        raise WeightsError(f"{path} is cut off or damaged: {error}.") from error
    return {
        name: value.astype(np.float32) if value.dtype.name == "bfloat16" else value for name, value in tensors.items()
    }
