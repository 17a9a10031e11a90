from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.fixture(scope="session")
def shapes_of():
    """shapes_of(module, size) -> (abstract variables, trainable parameters, abstract output), nothing computed."""

    def run(module, size=64, channels=3):
        images = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
        output, variables = jax.eval_shape(lambda k, x: module.init_with_output(k, x, False), jax.random.key(0), images)
        count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
        return variables, count, output

    return run


@pytest.fixture(scope="session")
def random_variables():
    """random_variables(module, x) -> variables with every leaf random, the running statistics too.

    Fresh ones (scale 1, offset 0, mean 0, variance 1) would hide a mistake in the normalisation.
    """

    def run(module, x, seed=0):
        rng = np.random.default_rng(seed)
        shapes = jax.eval_shape(lambda k: module.init(k, x, False), jax.random.key(0))

        def draw(path, leaf):
            kind = path[-1].key
            if kind == "kernel":
                return rng.normal(0, math.sqrt(2 / math.prod(leaf.shape[:-1])), leaf.shape).astype(np.float32)
            if kind in ("var", "scale"):
                return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
            return rng.normal(0, 0.3, leaf.shape).astype(np.float32)

        return jax.tree_util.tree_map_with_path(draw, shapes)

    return run
