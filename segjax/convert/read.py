"""Weight files of any kind as {name: array}."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from segjax.convert.pytorch_file import read_pytorch
from segjax.core.errors import WeightsError


def read_weights(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a PyTorch file (zip or legacy), a safetensors file or an npz, told apart by their first bytes.

    Nothing in the file is executed. A prefix `module.` on every name, which DataParallel leaves, is taken off.

    Raises:
      WeightsError: in one line, what is wrong with the file.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file.")
    with path.open("rb") as file:
        head = file.read(9)
        zipped = zipfile.is_zipfile(file)
    if zipped:
        with zipfile.ZipFile(path) as archive:
            arrays = all(name.endswith(".npy") for name in archive.namelist())
        tensors = _read_npz(path) if arrays else read_pytorch(path)
    elif head.startswith(b"PK"):
        raise WeightsError(f"{path} is cut off: a zip file without its end; fetch it again.")
    elif head.startswith(b"\x80"):
        tensors = read_pytorch(path)
    elif head[8:] == b"{":
        tensors = _read_safetensors(path)
    else:
        raise WeightsError(f"{path}: neither a PyTorch file, nor safetensors, nor npz.")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        if "allow_pickle" in str(error):
            raise WeightsError(f"{path} holds a numpy object array, which is a pickle: refused.") from error
        raise WeightsError(f"{path} is cut off or damaged: {error}.") from error


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        tensors = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError, TypeError, KeyError) as error:
        raise WeightsError(f"{path} is cut off or damaged: {error}.") from error
    return {
        name: value.astype(np.float32) if value.dtype.name == "bfloat16" else value for name, value in tensors.items()
    }
