"""Optimisers: optax chains that a config names, with masks and factors by parameter path."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from segjax.core.config import Optim
from segjax.core.errors import ConfigError
from segjax.core.paths import named_leaves, path_name


def make_optimizer(config: Optim, schedule: Callable[[Any], Any], params: Any) -> optax.GradientTransformation:
    """The update rule of a run.

    The gradient's global norm is clipped first (`clip_norm`). Weight decay spares vectors (biases, scales, shifts) and
    the paths of `decay_exclude`. It is added to the gradient for sgd, as PyTorch's SGD does (L2), and to the
    preconditioned update for adamw (arXiv:1711.05101, algorithm 2) and lamb (arXiv:1904.00962, algorithm 2), whose
    layerwise trust ratio spares the same leaves as its authors' code does. `multipliers` scale the learning rate, and
    so the decoupled decay with it, as PyTorch's parameter groups do. A factor of 0 freezes: such leaves never move,
    have no optimiser state, and their gradients do not count in `clip_norm`.

    muon replaces the averaged gradient of every matrix by the nearest orthogonal one (Jordan et al., Muon: an optimizer
    for hidden layers in neural networks, 2024), times sqrt(max(1, out / in)) (Bernstein and Newhouse, 2024,
    arXiv:2409.20325); a convolution counts as the matrix [kh * kw * in, out]. Vectors and depthwise kernels take adamw.

    Args:
      config: names, rates and regexes; a regex is searched in `encoder/stem/conv/kernel`.
      schedule: learning rate by step.
      params: the parameters or their shapes.

    Raises:
      ConfigError: for a broken regex, or one that matches no parameter; where nothing is left to train.
    """
    frozen = frozen_mask(params, config.multipliers)
    if not any(jax.tree.leaves(frozen)):
        return _rule(config, schedule, params, lambda tree: tree)
    if all(jax.tree.leaves(frozen)):
        raise ConfigError("config.optim.multipliers: every parameter has the factor 0; leave one to train.")

    def trained(tree):
        return jax.tree.map(lambda still, leaf: optax.MaskedNode() if still else leaf, frozen, tree)

    rules = {"trained": _rule(config, schedule, params, trained), "frozen": optax.set_to_zero()}
    return optax.partition(rules, jax.tree.map(lambda still: "frozen" if still else "trained", frozen))


def _rule(
    config: Optim, schedule: Callable[[Any], Any], params: Any, trained: Callable[[Any], Any]
) -> optax.GradientTransformation:
    """The chain for the leaves that `trained` leaves in a tree like `params`."""
    decayed = trained(decay_mask(params, config.decay_exclude))
    decay = optax.identity() if config.weight_decay == 0 else optax.add_decayed_weights(config.weight_decay, decayed)
    match config.name:
        case "sgd":
            rule = [decay]
            if config.momentum:
                rule.append(optax.trace(config.momentum, config.nesterov))
        case "adamw":
            rule = [optax.scale_by_adam(config.b1, config.b2, config.eps), decay]
        case "lamb":
            adam = optax.scale_by_adam(config.b1, config.b2, config.eps)
            rule = [adam, decay, optax.masked(optax.scale_by_trust_ratio(), decayed)]
        case "muon":
            rule = [_muon(config, trained(params)), decay]
        case name:
            raise ConfigError(f"config.optim.name: {name!r} is not one of sgd, adamw, lamb, muon.")
    if config.clip_norm:
        rule.insert(0, optax.clip_by_global_norm(config.clip_norm))
    if config.multipliers:
        factors = trained(rate_factors(params, config.multipliers))
        rule.append(optax.stateless(lambda updates, _: jax.tree.map(lambda update, f: update * f, updates, factors)))
    return optax.chain(*rule, optax.scale_by_learning_rate(schedule))


def _muon(config: Optim, params: Any) -> optax.GradientTransformation:
    def matrices(tree):
        return jax.tree.map(lambda x: contrib.MuonDimensionNumbers(tuple(range(x.ndim - 1)), x.ndim - 1), tree)

    def by_shape(updates, _):
        return jax.tree.map(lambda x: x * jnp.sqrt(max(1.0, x.shape[-1] ** 2 / x.size)), updates)

    orthogonal = contrib.scale_by_muon(
        beta=config.momentum, nesterov=config.nesterov, weight_dimension_numbers=matrices
    )
    rules = {
        "matrix": optax.chain(orthogonal, optax.stateless(by_shape)),
        "other": optax.scale_by_adam(config.b1, config.b2, config.eps),
    }
    return optax.partition(
        rules, jax.tree.map(lambda x: "matrix" if x.ndim > 1 and x.shape[-2] > 1 else "other", params)
    )


def decay_mask(params: Any, exclude: tuple[str, ...] = ()) -> Any:
    """True for the leaves that weight decay shrinks: more than one axis, and no regex of `exclude` in their path."""
    patterns = [_compiled(pattern, params, "config.optim.decay_exclude") for pattern in exclude]
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf.ndim > 1 and not any(pattern.search(path_name(path)) for pattern in patterns), params
    )


def rate_factors(params: Any, multipliers: Mapping[str, float]) -> Any:
    """The learning-rate factor of each leaf: that of the first regex found in its path, else 1."""
    patterns = [(_compiled(key, params, "config.optim.multipliers"), float(f)) for key, f in multipliers.items()]
    return jax.tree_util.tree_map_with_path(
        lambda path, _: next((factor for pattern, factor in patterns if pattern.search(path_name(path))), 1.0), params
    )


def frozen_mask(params: Any, multipliers: Mapping[str, float]) -> Any:
    """True for the leaves whose learning-rate factor is 0."""
    return jax.tree.map(lambda factor: factor == 0, rate_factors(params, multipliers))


def _compiled(pattern: str, params: Any, key: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"{key}: {pattern!r} is no regular expression: {error}.") from error
    names = list(named_leaves(params))
    if not any(map(compiled.search, names)):
        raise ConfigError(f"{key}: {pattern!r} matches no parameter; paths look like {names[0]!r}.")
    return compiled
