from __future__ import annotations

import numpy as np

from segjax.convert.fused import split_fused
from segjax.convert.mapping import fill
from segjax.core.registry import create_model


def test_only_modules_of_that_name_are_split():
    tensors = {"a.kv.weight": np.arange(8).reshape(4, 2), "a.kv.bias": np.arange(4), "kv2.weight": np.ones(2)}
    split = split_fused(tensors, "kv", ("k", "v"))
    assert split.keys() == {"a.k.weight", "a.v.weight", "a.k.bias", "a.v.bias", "kv2.weight"}
    np.testing.assert_array_equal(split["a.v.weight"], [[4, 5], [6, 7]])
    np.testing.assert_array_equal(split["a.k.bias"], [0, 1])


def _timm(width: int, depth: int, patches: int) -> dict[str, np.ndarray]:
    """A vision transformer's tensors by timm's names."""
    rng = np.random.default_rng(0)
    shapes = {"patch_embed.proj": (width, 3, 16, 16), "norm": (width,)}
    for i in range(depth):
        matrices = {"attn.qkv": 3, "attn.proj": 1, "mlp.fc1": 4}
        shapes |= {f"blocks.{i}.{name}": (n * width, width) for name, n in matrices.items()}
        shapes |= {f"blocks.{i}.mlp.fc2": (width, 4 * width), f"blocks.{i}.norm1": (width,)}
        shapes[f"blocks.{i}.norm2"] = (width,)
    tensors = {f"{name}.weight": rng.normal(size=shape) for name, shape in shapes.items()}
    tensors |= {f"{name}.bias": rng.normal(size=shape[:1]) for name, shape in shapes.items()}
    return tensors | {
        "cls_token": rng.normal(size=(1, 1, width)),
        "pos_embed": rng.normal(size=(1, 1 + patches, width)),
    }


def test_timms_vision_transformer_into_an_encoder():
    tensors = _timm(12, 2, 9)
    network = create_model("setr/test", 5)
    params = fill(network, tensors, "timm", into="encoder")["params"]["encoder"]
    query, key, value = np.split(tensors["blocks.1.attn.qkv.weight"], 3)
    for name, matrix in (("query", query), ("key", key), ("value", value)):
        np.testing.assert_allclose(params["block2"]["attention"][name]["kernel"], matrix.T, rtol=1e-6)
    np.testing.assert_allclose(params["position"], tensors["pos_embed"][0], rtol=1e-6)
    np.testing.assert_allclose(params["class_token"], tensors["cls_token"][0, 0], rtol=1e-6)


def test_multi_level_aggregation_leaves_the_class_token_out():
    tensors = _timm(12, 2, 9)
    network = create_model("setr/test", 5, decoder="mla")
    params = fill(network, tensors, "timm", into="encoder")["params"]["encoder"]
    assert "class_token" not in params
    np.testing.assert_allclose(params["position"], tensors["pos_embed"][0, 1:], rtol=1e-6)
