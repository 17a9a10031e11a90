"""From a reference's tensors to our variables, by a map; strict both ways.

A map is a file of `segjax/convert/maps/` with

* `MODELS`: the files (of models/semantic or models/encoders) whose networks it can fill, such as ("deeplabv3plus",);
* `rename(name, network) -> path | None`: the path of our module for the reference's module `layer1.0.conv1`, such as
  `encoder/stage1_block1/conv1/conv`; None for a module it does not know. `network` is ours, for maps that depend on
  its fields. A tensor that is no weight, bias or running statistic (`pos_embed`) is asked for by its whole name, and
  the path is our parameter's own;
* `INPUT`: what its networks are fed, see `segjax.convert.inputs`;
* `DROPPED`, if need be: regexes of tensors without use, such as a dead head's (`num_batches_tracked` always is);
* `prepare(tensors, network) -> tensors`, if need be: what renaming cannot do, such as splitting a fused matrix.

What a tensor becomes follows from where it goes: a convolution's kernel OIHW -> HWIO, a transposed one's IOHW -> HWIO,
a matrix OI -> IO, and between a matrix and a kernel of the same numbers (a fully connected layer as a convolution over
its whole input; a 1x1 convolution as a matrix). Vectors stay; axes of length 1 come and go.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

from segjax.convert import maps
from segjax.convert.prefixes import common_prefixes
from segjax.convert.read import read_weights
from segjax.core.errors import ModelError, WeightsError, suggest
from segjax.core.paths import named_leaves, path_name
from segjax.core.registry import create_model
from segjax.models.base import init_shapes, layers
from segjax.nn.conv import UpConv
from segjax.training.initialise import initialise

SHOWN = 12  # culprits an error names
_NEVER_USED = (r"num_batches_tracked$", r"^n_averaged$")  # counts of batch normalisation and of AveragedModel

# Ours for a reference's leaf, in order of trial.
_LEAVES = {
    "weight": ("params/{}/kernel", "params/{}/scale", "params/{}/slope", "params/{}/embedding", "params/{}"),
    "bias": ("params/{}/bias",),
    "running_mean": ("batch_stats/{}/mean",),
    "running_var": ("batch_stats/{}/var",),
}


class Match(NamedTuple):
    """A file's tensors, and the map they are named by.

    Attributes:
      rules: a module of `segjax.convert.maps`.
      tensors: {name: array}, without `prefix`.
      prefix: what was taken off every name, such as `model.`; else "".
    """

    rules: ModuleType
    tensors: dict[str, np.ndarray]
    prefix: str

    @property
    def map(self) -> str:
        return self.rules.__name__.rpartition(".")[2]


def load_weights(
    model: Any,
    file: str | Path,
    *,
    num_classes: int | None = None,
    in_channels: int = 3,
    map: str | None = None,
    into: str = "",
    reinit: Sequence[str] = (),
    adapt_input: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """The network's variables from other people's weights: float32 numpy arrays, what `model.apply` takes.

    They say nothing of the pixels that the network expects: `segjax.convert.input_of` does, for `DatasetInfo`.

    Args:
      model: a network, or its name in the registry.
      file: PyTorch (zip or legacy), safetensors or npz.
      num_classes, in_channels: of a network given by name.
      map: a file of `segjax/convert/maps/`; default: of those for this network, the one that knows the names.
      into: path of the submodule the file is for, such as `encoder`; the rest of the network starts fresh.
      reinit: regexes of our paths that start fresh whatever the file has, such as `classifier`.
      adapt_input: where the network takes more or fewer image channels than the file's first kernel: channel c of C
        gets the file's channel c mod I of its I (fewer: the mean of all), times I / C, so that a grey image still gives
        the same activations.
      seed: of what starts fresh.

    Raises:
      WeightsError: a file that cannot be read, a tensor without a place, a parameter without a tensor, other shapes.
      ModelError: an unknown model or map.
    """
    if isinstance(model, str):
        if num_classes is None:
            raise ModelError(f"load_weights: num_classes is needed to make {model!r}: give it, or a network.")
        model = create_model(model, num_classes, in_channels)
    return fill(model, read_weights(file), str(file), map, into, reinit, adapt_input, seed)


def matched(model: Any, tensors: Mapping[str, np.ndarray], map: str | None = None, into: str = "") -> Match:
    """The map that knows most of the tensors, and the tensors without a prefix before all that only it has not.

    Args:
      model, map, into: as of `load_weights`.
      tensors: by name.

    Raises:
      WeightsError: no map for this network.
      ModelError: an unknown map, one for other networks, an unknown submodule.
    """
    target = _find_target(model, into)
    fitting = _maps_for(map, target.module)
    prefixes = common_prefixes(name for name in tensors if not _dropped(name, _NEVER_USED))

    def unknown(choice: tuple[str, ModuleType]) -> int:
        return sum(not target.knows(choice[1], name.removeprefix(choice[0])) for name in tensors)

    # Of equally good ones the first: the shortest prefix, the first map by name.
    prefix, rules = min(((prefix, rules) for prefix in prefixes for rules in fitting), key=unknown)
    return Match(rules, {name.removeprefix(prefix): value for name, value in tensors.items()}, prefix)


def fill(
    model: Any,
    tensors: Mapping[str, np.ndarray],
    source: str,
    map: str | None = None,
    into: str = "",
    reinit: Sequence[str] = (),
    adapt_input: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """`load_weights` of tensors already read; `source` is what errors call them."""
    modules, shapes = layers(model), named_leaves(init_shapes(model))
    match, target = matched(model, tensors, map, into), _find_target(model, into)
    rules, ours = match.rules, target.shapes
    fresh = {name for name in ours if any(re.search(regex, name.partition("/")[2]) for regex in _regexes(reinit, ours))}

    where = f"{source}, by the map {match.map}"
    if match.prefix:
        where += f" and without {match.prefix!r} before each name"
    tensors = {name: value for name, value in match.tensors.items() if not _dropped(name, _unused(rules))}
    if hasattr(rules, "prepare"):
        try:
            tensors = rules.prepare(tensors, target.module)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise WeightsError(f"{where}: tensors of other names or shapes than its ({error}).") from error

    values: dict[str, np.ndarray] = {}
    left, wrong, broken, outputs = [], [], [], set()
    for name, value in tensors.items():
        path = _place(rules, name, target)
        if path is None or path in values:
            left.append(f"{name} {list(value.shape)}")
        elif path not in fresh:
            transposed = isinstance(modules.get(path.partition("/")[2].rpartition("/")[0]), UpConv)
            values[path] = moved = _convert(value, ours[path], transposed)
            if adapt_input and _is_input(moved.shape, ours[path], model.in_channels):
                values[path] = moved = _adapted(moved, model.in_channels)
            if moved.shape != ours[path]:
                wrong.append(f"{name} {list(value.shape)} for {path.partition('/')[2]} {list(ours[path])}")
                outputs |= {n for n, wanted in zip(moved.shape, ours[path]) if n != wanted == model.num_classes}
            if not np.isfinite(value).all():
                broken.append(name)
    missing = [
        f"{name.partition('/')[2]} {list(shape)}" for name, shape in ours.items() if name not in {*values, *fresh}
    ]
    if left or missing:
        hint = _partly_prefixed(rules, tensors, target)
        if hint:
            raise WeightsError(f"{where}: {hint}.")
        parts = [f"{len(left)} tensors have no place: {_listed(left)}"] if left else []
        parts += [f"{len(missing)} parameters are not filled: {_listed(missing)}"] if missing else []
        raise WeightsError(f"{where}: {'; '.join(parts)}. Is it this network's? What may start fresh goes into reinit.")
    if wrong:
        found = f" The file has {outputs.pop()} outputs, not {model.num_classes}." if len(outputs) == 1 else ""
        raise WeightsError(f"{where}: other shapes: {_listed(wrong)}.{found} What may start fresh goes into reinit.")
    if broken:
        raise WeightsError(f"{where}: NaN or infinite numbers in {_listed(broken)}; take a file of before that.")
    if values.keys() == shapes.keys():
        variables = init_shapes(model)
    else:
        variables = initialise(lambda key, x: model.init(key, x), jax.random.key(seed), model.example)

    def filled(path: Any, leaf: jax.Array) -> np.ndarray | jax.Array:
        value = values.get(path_name(path))
        return leaf if value is None else np.array(value, np.float32, order="C")

    return jax.tree_util.tree_map_with_path(filled, variables)


def list_maps() -> list[str]:
    """The names of all maps."""
    return sorted(module.name for module in pkgutil.iter_modules(maps.__path__))


class _Target(NamedTuple):
    """What is to be filled.

    Attributes:
      module: the network, or its submodule.
      inner: its path with a slash, or "".
      shapes: of its variables, by whole path.
      places: paths in the network of its variables and of all modules around them.
    """

    module: Any
    inner: str
    shapes: dict[str, tuple[int, ...]]
    places: set[str]

    def knows(self, rules: ModuleType, tensor: str) -> bool:
        """Whether the map has a place here for the tensor, or no use for it."""
        if _dropped(tensor, _unused(rules)):
            return True
        path = _renamed(rules, tensor, self.module)
        return path is not None and self.inner + path in self.places


def _find_target(model: Any, into: str) -> _Target:
    modules = layers(model)
    if into not in modules:
        raise ModelError(f"into: the network has no submodule {into!r}.{suggest(into, modules)}")
    inner = f"{into}/" if into else ""
    shapes = named_leaves(init_shapes(model))
    ours = {name: leaf.shape for name, leaf in shapes.items() if name.partition("/")[2].startswith(inner)}
    places = set()
    for name in ours:
        place = name.partition("/")[2]
        while place:
            places.add(place)
            place = place.rpartition("/")[0]
    return _Target(modules[into], inner, ours, places)


def _maps_for(name: str | None, target: Any) -> list[ModuleType]:
    """The map of that name, or all that are for the network."""
    if name is not None and name not in list_maps():
        raise ModelError(f"map {name!r} is unknown.{suggest(name, list_maps())}")
    kind = type(target).__module__.rpartition(".")[2]
    known = [importlib.import_module(f"{maps.__name__}.{one}") for one in ([name] if name else list_maps())]
    fitting = [rules for rules in known if kind in rules.MODELS]
    if not fitting and name is not None:
        raise ModelError(f"map {name!r} is for {' and '.join(known[0].MODELS)}, not for {kind}.")
    if not fitting:
        raise WeightsError(f"no map of segjax/convert/maps is for {kind}; name one by map=, or write one.")
    return fitting


def _unused(rules: ModuleType) -> tuple[str, ...]:
    return (*_NEVER_USED, *getattr(rules, "DROPPED", ()))


def _dropped(name: str, patterns: Iterable[str]) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)


def _renamed(rules: ModuleType, tensor: str, target: Any) -> str | None:
    try:
        return rules.rename(_module_of(tensor), target)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return None  # a name of its kind with a number beyond the network's


def _partly_prefixed(rules: ModuleType, tensors: Iterable[str], target: _Target) -> str:
    """A hint where most of the names under one prefix fit without it, such as a training wrapper's `model.`."""
    tensors = list(tensors)
    for prefix in sorted({f"{name.partition('.')[0]}." for name in tensors if "." in name}):
        under = [name for name in tensors if name.startswith(prefix)]
        before = sum(target.knows(rules, name) for name in under)
        after = sum(target.knows(rules, name.removeprefix(prefix)) for name in under)
        if after > max(before, len(under) / 2):
            others = [name for name in tensors if not name.startswith(prefix)]
            return (
                f"{after} of the {len(under)} names with {prefix!r} fit without it, but {len(others)} names lack it "
                f"({_listed(others)}); save those with it alone"
            )
    return ""


def _module_of(tensor: str) -> str:
    module, _, leaf = tensor.rpartition(".")
    return module if leaf in _LEAVES else tensor


def _place(rules: ModuleType, tensor: str, target: _Target) -> str | None:
    path = _renamed(rules, tensor, target.module)
    if path is None:
        return None
    leaf = tensor.rpartition(".")[2]
    choices = [choice.format(target.inner + path) for choice in _LEAVES.get(leaf, ("params/{}",))]
    return next((choice for choice in choices if choice in target.shapes), None)


def _convert(value: np.ndarray, shape: tuple[int, ...], transposed: bool) -> np.ndarray:
    """A reference's tensor in our order of axes; of another shape than `shape` where it cannot be that."""
    if value.ndim == 2 and len(shape) == 4 and not transposed:
        # Where the numbers do not fit, a 1x1 kernel, so that the error shows both.
        rows, columns = shape[:2] if value.shape[1] == math.prod(shape[:3]) else (1, 1)
        value = value.reshape(value.shape[0], -1, rows, columns)
    if value.ndim == 4 and len(shape) == 4:
        return value.transpose((2, 3, 0, 1) if transposed else (2, 3, 1, 0))
    if value.ndim == 4 and len(shape) == 2 and value.shape[2:] == (1, 1):
        value = value[:, :, 0, 0]
    if value.ndim == 2 and len(shape) == 2:
        return value.T
    same = [n for n in value.shape if n != 1] == [n for n in shape if n != 1]
    return value.reshape(shape) if same else value


def _is_input(shape: tuple[int, ...], wanted: tuple[int, ...], channels: int) -> bool:
    others = [axis for axis in range(4) if axis != 2]
    return len(shape) == len(wanted) == 4 and wanted[2] == channels and all(shape[a] == wanted[a] for a in others)


def _adapted(kernel: np.ndarray, channels: int) -> np.ndarray:
    given = kernel.shape[2]
    if channels < given:
        kernel = kernel.mean(axis=2, keepdims=True)
    return kernel[:, :, np.arange(channels) % kernel.shape[2]] * (given / channels)


def _regexes(patterns: Iterable[str], ours: Mapping[str, Any]) -> list[str]:
    patterns = list(patterns)
    for pattern in patterns:
        try:
            found = any(re.search(pattern, name.partition("/")[2]) for name in ours)
        except re.error as error:
            raise WeightsError(f"reinit: {pattern!r} is no regular expression: {error}.") from error
        if not found:
            example = min(ours).partition("/")[2]
            raise WeightsError(f"reinit: {pattern!r} finds nothing; paths look like {example!r}.")
    return patterns


def _listed(names: list[str]) -> str:
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{rest}"
