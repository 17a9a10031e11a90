"""PyTorch's `.pth`, zip and legacy, without torch and without executing what the file says.

Both hold a pickle, which is a program: unpickled as it stands, it may call anything that can be imported. Here the
program can name only what a state dict consists of (`_ALLOWED`); any other name ends the reading with that name.

The zip form (PyTorch 1.6 on): `ROOT/data.pkl`, and the bytes of each storage in `ROOT/data/KEY`. The legacy form: one
file of five pickles (a magic number, the protocol, facts on the machine, the object, the storages' keys), then each
storage, its length in eight bytes before it. Both as in torch/serialization.py.
"""

from __future__ import annotations

import collections
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from segjax.core.errors import WeightsError

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001

# bfloat16 is read as its bits, see `_array`.
_STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_STATE_DICTS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params_ema")


class _Storage(NamedTuple):
    key: str
    dtype: str
    length: int
    start: int = 0  # of a view, in elements


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read_pytorch(path: Path) -> dict[str, np.ndarray]:
    """The state dict of a file, by name; that of a training checkpoint is found under its usual keys.

    Raises:
      WeightsError: a name that a state dict does not need, a file cut off, no state dict in it.
    """
    with path.open("rb") as file:
        if zipfile.is_zipfile(file):
            return _read_zip(path, file)
        file.seek(0)
        return _read_legacy(path, file)


def _read_zip(path: Path, file: BinaryIO) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
        root = next((name.removesuffix("data.pkl") for name in names if name.endswith("data.pkl")), None)
        if root is None:
            raise WeightsError(f"{path}: a zip file without data.pkl; it is none of PyTorch's.")
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise WeightsError(f"{path}: written big-endian; save it again on a little-endian machine.")
        with archive.open(f"{root}data.pkl") as stream:
            tensors = _tensors(path, _Unpickler(path, stream).load())

        def read(storage: _Storage) -> bytes:
            return archive.read(f"{root}data/{storage.key}")

        return {name: _array(path, name, tensor, read) for name, tensor in tensors.items()}


def _read_legacy(path: Path, file: BinaryIO) -> dict[str, np.ndarray]:
    if _Unpickler(path, file).load() != MAGIC or _Unpickler(path, file).load() != PROTOCOL:
        raise WeightsError(f"{path}: a pickle, but none that PyTorch wrote.")
    machine = _Unpickler(path, file).load()
    if not isinstance(machine, dict) or not machine.get("little_endian", True):
        raise WeightsError(f"{path}: written big-endian; save it again on a little-endian machine.")
    loaded = _Unpickler(path, file)
    tensors = _tensors(path, loaded.load())
    data = {}
    for key in _Unpickler(path, file).load():
        storage = loaded.storages.get(key)
        if storage is None:
            raise WeightsError(f"{path}: a storage {key!r} that no tensor has.")
        count = file.read(8)
        if len(count) < 8:
            raise WeightsError(f"{path} is cut off: it ends before storage {key}.")
        wanted = int.from_bytes(count, "little") * _itemsize(storage.dtype)
        if wanted > path.stat().st_size - file.tell():
            raise WeightsError(f"{path} is cut off: storage {key} of {wanted} bytes is not whole.")
        data[key] = file.read(wanted)
    return {name: _array(path, name, tensor, lambda s: data[s.key]) for name, tensor in tensors.items()}


class _Unpickler(pickle._Unpickler):
    """Calls nothing but the functions of `_allowed`.

    The one in Python: the one in C makes room for as many memoised objects as a damaged file names.
    """

    def __init__(self, path: Path, file: Any):
        super().__init__(file, encoding="latin1")
        self.path = path
        self.storages: dict[str, _Storage] = {}

    def load(self) -> Any:
        try:
            return super().load()
        except WeightsError:
            raise
        except EOFError as error:
            raise WeightsError(f"{self.path} is cut off: its pickle has no end.") from error
        except Exception as error:  # a broken pickle fails in any way at all
            raise WeightsError(f"{self.path}: a broken pickle ({type(error).__name__}: {error}).") from error

    def find_class(self, module: str, name: str) -> Any:
        found = _allowed(module, name)
        if found is None:
            raise WeightsError(
                f"{self.path} asks for {module}.{name}, which weights have no need of: refused, nothing was run. Of a "
                "file you trust, save the state dict alone: torch.save(model.state_dict(), FILE)."
            )
        return found

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, length, *view = pid
        if kind != "storage" or not isinstance(dtype, str):
            raise WeightsError(f"{self.path}: a reference {kind!r} to something other than a tensor's storage.")
        storage = self.storages.setdefault(str(key), _Storage(str(key), dtype, int(length)))
        return storage._replace(start=int(view[0][1]), length=int(view[0][2])) if view and view[0] else storage


def _allowed(module: str, name: str) -> Any:
    """What a pickle means by a name, or None. Functions are made anew, so that no file can leave its mark on them."""
    if (module, name) == ("collections", "OrderedDict"):
        return collections.OrderedDict
    if module in ("torch", "torch.storage") and name in _STORAGES:
        return _STORAGES[name]
    if (module, name) == ("torch", "Size"):
        return lambda sizes=(): tuple(sizes)
    if (module, name) == ("torch", "device"):
        return lambda *place: str(place)
    if (module, name) in (("torch._utils", "_rebuild_tensor"), ("torch._utils", "_rebuild_tensor_v2")):
        return lambda storage, offset, size, stride, *_: _Tensor(storage, offset, size, stride)
    if (module, name) == ("torch._utils", "_rebuild_parameter"):
        return lambda tensor, *_: tensor
    # A score that a training checkpoint keeps as a numpy number: its value is of no use here.
    if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "scalar":
        return lambda *_: None
    if (module, name) == ("_codecs", "encode"):
        return lambda *_: None
    if (module, name) == ("numpy", "dtype"):
        return lambda *_: type("Ignored", (), {"__setstate__": lambda *_: None})()
    return None


def _tensors(path: Path, found: Any) -> dict[str, _Tensor]:
    """The state dict in what a file holds."""
    for key in _STATE_DICTS:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
            break
    tensors = {}
    if isinstance(found, dict):
        tensors = {str(name): value for name, value in found.items() if isinstance(value, _Tensor)}
    if not tensors:
        raise WeightsError(f"{path}: no state dict in it, neither by itself nor under {', '.join(_STATE_DICTS)}.")
    return tensors


def _itemsize(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _array(path: Path, name: str, tensor: _Tensor, read: Any) -> np.ndarray:
    """The tensor's values; checked against its storage, which a stride could leave."""
    try:
        storage, offset = tensor.storage, int(tensor.offset)
        size, stride = (tuple(map(int, numbers)) for numbers in (tensor.size, tensor.stride))
        data = read(storage)
    except (KeyError, zipfile.BadZipFile, EOFError, AttributeError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: the values of {name} are missing or damaged ({error}).") from error
    itemsize = _itemsize(storage.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride)) if all(size) else offset - 1
    inside = len(size) == len(stride) and min(offset, storage.start, *size, *stride) >= 0
    # More elements than the storage has, by a stride of 0, would be a small file that fills the memory.
    fits = last < storage.length >= math.prod(size) and (storage.start + storage.length) * itemsize <= len(data)
    if not inside or not fits:
        raise WeightsError(
            f"{path} is cut off or damaged: {name} {list(size)} reaches beyond its storage of {len(data)} bytes."
        )
    values = np.frombuffer(data, "<u2" if storage.dtype == "bfloat16" else storage.dtype)
    if not all(size):
        return np.zeros(size, values.dtype)
    values = np.lib.stride_tricks.as_strided(
        values[storage.start + offset :], size, [step * itemsize for step in stride], writeable=False
    )
    if storage.dtype == "bfloat16":  # the upper half of a float32
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.copy()
