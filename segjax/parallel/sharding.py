"""Which part of an array each device of the mesh holds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from segjax.core.errors import ConfigError
from segjax.core.fields import HEIGHT, axes_of
from segjax.core.paths import named_leaves, path_name
from segjax.parallel.mesh import DATA, FSDP, SPATIAL

SMALLEST_SPLIT = 2**16
"""Parameters with fewer elements stay whole on every device: gathering them would cost more than they take."""


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of an array that every device holds whole."""
    return NamedSharding(mesh, P())


def batch_sharding(mesh: Mesh, key: str, shape: Sequence[int]) -> NamedSharding:
    """The sharding of one array of a batch, [B, ...].

    The first axis is split over `data` and `fsdp`. Of the others the one that `segjax.core.fields` calls height is
    split over `spatial`, where it divides; where it does not, the devices of a spatial group hold the same rows, which
    is correct and saves nothing.
    """
    axes: list[Any] = [(DATA, FSDP)]
    for axis, length in zip(axes_of(key), shape[1:]):
        axes.append(SPATIAL if axis == HEIGHT and length % mesh.shape[SPATIAL] == 0 else None)
    return NamedSharding(mesh, P(*axes))


def state_sharding(mesh: Mesh, state: Any, rules: Mapping[str, int | None] | None = None) -> Any:
    """Shardings of a pytree of parameters, optimiser moments or averages (arrays or their shapes), leaf by leaf.

    Whole on every device, unless the mesh has an `fsdp` axis: then the longest axis that divides is split over it, for
    leaves of at least `SMALLEST_SPLIT` elements. The rule sees shapes only, so moments lie where their parameters do.

    Args:
      mesh: of the run.
      state: the pytree.
      rules: what to split instead: {regex: axis of the array, or None for whole}, the first found in a leaf's path,
        such as `params/encoder/stem/conv/kernel`, decides; an axis may count from the end.

    Raises:
      ConfigError: a rule that is no regular expression, whose axis the array does not have or does not split evenly.
    """
    parts = mesh.shape[FSDP]
    patterns = [(_compiled(pattern), axis) for pattern, axis in (rules or {}).items()]

    def place(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        if parts == 1:
            return replicated(mesh)
        name = path_name(path)
        chosen = next(((pattern, axis) for pattern, axis in patterns if pattern.search(name)), None)
        if chosen is None:
            divisible = [axis for axis, length in enumerate(leaf.shape) if length % parts == 0]
            if leaf.size < SMALLEST_SPLIT or not divisible:
                return replicated(mesh)
            axis = max(divisible, key=lambda axis: leaf.shape[axis])
        else:
            pattern, axis = chosen
            if axis is None:
                return replicated(mesh)
            if not -leaf.ndim <= axis < leaf.ndim or leaf.shape[axis] % parts:
                raise ConfigError(
                    f"config.parallel.rules: {pattern.pattern!r} splits axis {axis} over fsdp={parts}, but {name} has "
                    f"the shape {leaf.shape}; take an axis that divides, or None."
                )
            axis %= leaf.ndim
        return NamedSharding(mesh, P(*[FSDP if each == axis else None for each in range(leaf.ndim)]))

    return jax.tree_util.tree_map_with_path(place, state)


def check_rules(rules: Mapping[str, int | None], state: Any) -> None:
    """Raises ConfigError for a rule that no leaf of the whole state goes by."""
    names = list(named_leaves(state))
    for pattern in rules:
        if not any(map(_compiled(pattern).search, names)):
            raise ConfigError(f"config.parallel.rules: {pattern!r} matches nothing; paths look like {names[1]!r}.")


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"config.parallel.rules: {pattern!r} is no regular expression: {error}.") from error
