"""Reading weight files: equal to torch's own, and nothing that a file says is run."""

from __future__ import annotations

import builtins
import collections
import os
import pickle
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from segjax.convert.read import read_weights
from segjax.core.errors import WeightsError

MAGIC, PROTOCOL, MACHINE = 0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def zip_file(path, content, **entries):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(content, protocol=2))
        for name, data in entries.items():
            archive.writestr(f"archive/{name}", data)


def legacy_file(path, content, keys=()):
    path.write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in (MAGIC, PROTOCOL, MACHINE, content, keys)))


WRITERS = {"zip": zip_file, "legacy": legacy_file}


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def state(torch):
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(4, 6, generator=generator)
    return collections.OrderedDict(
        {
            "plain": torch.randn(3, 2, 5, 5, generator=generator),
            "transposed": whole.t(),
            "part": whole[1:3, 2:],
            "scalar": torch.tensor(3),
            "none": torch.zeros(0, 3),
            "half": torch.randn(7, generator=generator).half(),
            "bfloat16": torch.randn(7, generator=generator).bfloat16(),
            "bytes": torch.arange(5, dtype=torch.uint8),
            "bool": torch.tensor([True, False]),
            "parameter": torch.nn.Parameter(torch.ones(2, 2, dtype=torch.float64)),
        }
    )


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapped", [False, True])
def test_equals_torch(torch, state, tmp_path, zipped, wrapped):
    content = {"epoch": 3, "best": np.float64(0.5), "state_dict": state, "optimizer": {"lr": 0.1}} if wrapped else state
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    found = read_weights(tmp_path / "w.pth")
    assert list(found) == list(state)
    for name, tensor in state.items():
        expected = tensor.detach().float() if name == "bfloat16" else tensor.detach()
        np.testing.assert_array_equal(found[name], expected.numpy(), strict=True)


def test_the_prefix_of_parallel_training_is_taken_off(torch, tmp_path):
    torch.save({"module.a.weight": torch.ones(2), "module.b": torch.ones(1)}, tmp_path / "w.pth")
    assert list(read_weights(tmp_path / "w.pth")) == ["a.weight", "b"]


@pytest.mark.parametrize(
    "names",
    [
        ("_orig_mod.a.weight", "_orig_mod.b"),
        ("module.module.a.weight", "module.module.b"),
        ("_orig_mod.module.a.weight", "module.b"),
        ("module._orig_mod.a.weight", "b"),
        ("a._orig_mod.weight", "module.b"),
    ],
)
def test_what_wrappers_put_into_names_is_taken_out(tmp_path, names):
    np.savez(tmp_path / "w.npz", **{name: np.full(2, i) for i, name in enumerate(names)})
    found = read_weights(tmp_path / "w.npz")
    assert {name: int(value[0]) for name, value in found.items()} == {"a.weight": 0, "b": 1}


def test_two_copies_of_one_tensor_are_named(tmp_path):
    np.savez(tmp_path / "w.npz", **{"module.a": np.zeros(2), "a": np.ones(2)})
    with pytest.raises(WeightsError, match=r"holds both module\.a and a, two copies of a"):
        read_weights(tmp_path / "w.npz")


def test_safetensors_whatever_the_length_of_its_header(tmp_path):
    """The header's length is in the file's first bytes, which then look like anything, a pickle's or a zip's."""
    seen, path = set(), tmp_path / "w.safetensors"
    for extra in range(1, 2200, 8):
        safetensors.numpy.save_file({"w": np.arange(3.0)}, path, metadata={"note": "x" * extra})
        assert list(read_weights(path)) == ["w"]
        seen.add(path.read_bytes()[0])
    assert {0x80, 0x50} <= seen


def test_safetensors_that_end_with_a_zip_file(tmp_path):
    np.savez(tmp_path / "w.npz", other=np.ones(1))
    archive = np.frombuffer((tmp_path / "w.npz").read_bytes(), np.uint8)
    safetensors.numpy.save_file({"w": archive}, tmp_path / "w.safetensors")
    assert list(read_weights(tmp_path / "w.safetensors")) == ["w"]


def test_safetensors_and_npz(tmp_path):
    arrays = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.float16)}
    safetensors.numpy.save_file(arrays, tmp_path / "w.safetensors")
    np.savez(tmp_path / "w.npz", **arrays)
    for name in ("w.safetensors", "w.npz"):
        found = read_weights(tmp_path / name)
        assert found.keys() == arrays.keys()
        for key, value in arrays.items():
            np.testing.assert_array_equal(found[key], value, strict=True)


def bombs(tmp_path):
    mark = tmp_path / "mark"
    return {
        f"{os.system.__module__}.system": Calls(os.system, f"touch {mark}"),
        "eval": Calls(builtins.eval, f"open({str(mark)!r}, 'w')"),
        "exec": Calls(builtins.exec, f"open({str(mark)!r}, 'w')"),
        "getattr": Calls(builtins.getattr, "", "join"),
        "multiarray._reconstruct": np.array([Calls(os.system, f"touch {mark}")], object),
    }


@pytest.mark.parametrize("kind", ["zip", "legacy"])
@pytest.mark.parametrize("name", ["posix.system", "eval", "exec", "getattr", "multiarray._reconstruct"])
def test_a_pickle_that_calls_something_is_refused_by_name(tmp_path, kind, name):
    if os.name != "posix":
        pytest.skip("os.system has another name here")
    for content in (bombs(tmp_path)[name], {"a.weight": bombs(tmp_path)[name]}):
        WRITERS[kind](tmp_path / "w.pth", content)
        with pytest.raises(WeightsError, match=rf"{name}, .*refused") as error:
            read_weights(tmp_path / "w.pth")
        assert "\n" not in str(error.value)
    assert not (tmp_path / "mark").exists()


def test_a_bomb_before_the_weights_of_a_legacy_file(tmp_path):
    (tmp_path / "w.pth").write_bytes(pickle.dumps(bombs(tmp_path)["eval"], protocol=2))
    with pytest.raises(WeightsError, match=r"__builtin__\.eval.*refused"):
        read_weights(tmp_path / "w.pth")


def test_an_object_array_in_npz(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.array([Calls(os.system, "true")], object))
    with pytest.raises(WeightsError, match=r"object array.*refused"):
        read_weights(tmp_path / "w.npz")


def test_a_tensor_beyond_its_storage(torch, tmp_path):
    """Sizes and strides are the file's word: none may reach other memory, or fill it."""

    class Storage:
        pass

    class Rebuilt:
        def __init__(self, *args):
            self.args = args

        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, self.args

    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            return ("storage", torch.FloatStorage, "0", "cpu", 4) if isinstance(item, Storage) else None

    for offset, size, stride in ((0, (5,), (1,)), (3, (2,), (1,)), (0, (2, 2), (3, 1)), (-1, (1,), (1,)),
                                 (3, (2,), (-1,)), (0, (10**12,), (0,))):  # fmt: skip
        path = tmp_path / "w.pth"
        with zipfile.ZipFile(path, "w") as archive:
            with archive.open("archive/data.pkl", "w") as file:
                content = {"a": Rebuilt(Storage(), offset, size, stride, False, collections.OrderedDict())}
                Pickler(file, protocol=2).dump(content)
            archive.writestr("archive/data/0", np.arange(4, dtype=np.float32).tobytes())
        with pytest.raises(WeightsError, match=r"a .*reaches beyond its storage"):
            read_weights(path)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors", "npz"])
def test_a_file_cut_off_anywhere(torch, state, tmp_path, kind):
    whole = tmp_path / "whole"
    arrays = {name: tensor.detach().float().numpy().copy() for name, tensor in state.items()}
    if kind == "safetensors":
        safetensors.numpy.save_file(arrays, whole)
    elif kind == "npz":
        np.savez(tmp_path / "whole.npz", **arrays)
        whole = tmp_path / "whole.npz"
    else:
        torch.save(state, whole, _use_new_zipfile_serialization=kind == "zip")
    data = whole.read_bytes()
    # The legacy form stores tensors in the order of their addresses: the last may be a scalar of 16 bytes.
    ends = [int(share * len(data)) for share in (0.0, 0.01, 0.1, 0.3, 0.5, 0.8, 0.95, 0.999)]
    for end in (*ends, *(len(data) - lost for lost in (1, 8, 9, 16) if kind == "legacy")):
        (tmp_path / "cut").write_bytes(data[:end])
        with pytest.raises(WeightsError) as error:
            read_weights(tmp_path / "cut")
        assert "\n" not in str(error.value)


def test_what_is_no_weight_file(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"<!DOCTYPE html>")
    (tmp_path / "lfs.pth").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "wide.safetensors").write_bytes((2**40).to_bytes(8, "little") + b"{}")
    (tmp_path / "long.safetensors").write_bytes((0x80).to_bytes(8, "little") + b'{"w":{"dtype"')
    (tmp_path / "odd.safetensors").write_bytes((16).to_bytes(8, "little") + b'{"w": [1, 2]}   ')
    np.savez(tmp_path / "none.npz")
    cases = {
        "w.pth": "neither.*a web page",
        "gone.pth": "no such file",
        "lfs.pth": "Git LFS pointer",
        "empty.pth": "is empty",
        "wide.safetensors": "neither",
        "long.safetensors": "cut off: a safetensors file",
        "odd.safetensors": "broken header",
        ".": "is a folder",
        "none.npz": "no tensors",
    }
    for name, says in cases.items():
        path = tmp_path / name
        with pytest.raises(WeightsError, match=says):
            read_weights(path)
    zip_file(tmp_path / "w.pth", {"epoch": 1})
    with pytest.raises(WeightsError, match="no state dict"):
        read_weights(tmp_path / "w.pth")
