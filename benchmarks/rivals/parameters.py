"""One set of parameters for a network of ours and its twin."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import torch
from torch import nn

from segjax.models.base import Network, init_shapes, layers

LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "slope": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def random_variables(network: Network) -> dict[str, Any]:
    """As `network.init` makes them, but for values that show whether each is in its place."""
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) == 4 else 10
        return rng.normal(scale=np.sqrt(2 / fan_in), size=leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, init_shapes(network))


def carry(network: Network, variables: Mapping[str, Any], rival: torch.nn.Module, images: torch.Tensor) -> None:
    """Our variables into the twin. Its layers may have other names: both run theirs in the same order."""
    called = []
    hooks = [
        module.register_forward_pre_hook(lambda module, _: called.append(module))
        for module in rival.modules()
        if next(module.parameters(recurse=False), None) is not None
    ]
    rival(images)
    for hook in hooks:
        hook.remove()
    held = collections.defaultdict(dict)
    for path, value in jax.tree_util.tree_leaves_with_path(variables):
        *module, leaf = (part.key for part in path[1:])
        held["/".join(module)][LEAVES[leaf]] = value
    paths = [path for path in layers(network) if path in held]
    assert len(paths) == len(held)
    for path, module in zip(paths, called, strict=True):
        state = {key: value for key, value in module.state_dict().items() if key != "num_batches_tracked"}
        assert state.keys() == held[path].keys(), path
        for key, value in held[path].items():
            if value.ndim == 4:
                value = value.transpose((2, 3, 0, 1) if isinstance(module, nn.ConvTranspose2d) else (3, 2, 0, 1))
            assert state[key].shape == value.shape, path
            state[key].copy_(torch.from_numpy(value))
