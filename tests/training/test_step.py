from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toy_run import ToyNet, ToyTask, bitwise_equal, make_batch, transform

from segjax.parallel.mesh import make_mesh
from segjax.training.state import init_state, init_variables
from segjax.training.step import make_train_step

BATCH = {key: jnp.asarray(value) for key, value in make_batch(0).items() if key != "name"}


@functools.cache
def _built(net: ToyNet, rate: float, ema: float | None, seed: int, accumulate: int, remat: str):
    tx = optax.sgd(rate)
    mesh = make_mesh(devices=jax.devices()[:1])
    state = init_state(init_variables(net, 0, (8, 8, 3)), tx, mesh, ema=ema is not None)
    step = make_train_step(
        net,
        ToyTask(),
        tx,
        transform,
        schedule=lambda s: jnp.float32(rate),
        seed=seed,
        accumulate=accumulate,
        ema_decay=ema,
        remat=remat,
    )
    return state, jax.jit(step)


def _run(net, steps=1, *, rate=0.1, ema=None, seed=0, accumulate=1, remat="none"):
    state, step = _built(net, rate, ema, seed, accumulate, remat)
    states, metrics = [state], {}
    for _ in range(steps):
        state, metrics = step(state, BATCH)
        states.append(state)
    return states, metrics


def test_one_step_is_gradient_descent_on_the_masked_mean() -> None:
    net = ToyNet(norm=False)
    (before, after), metrics = _run(net)
    key, _ = jax.random.split(jax.random.fold_in(jax.random.key(0), 0))
    batch = transform(key, BATCH)

    def loss(params):
        log_p = jax.nn.log_softmax(net.apply({"params": params}, batch["image"])["logits"])
        mask = np.asarray(batch["label"]) != 255
        rows = log_p.reshape(-1, 2)[np.flatnonzero(mask.ravel())]
        return -rows[np.arange(mask.sum()), np.asarray(batch["label"])[mask]].mean()

    value, grads = jax.value_and_grad(loss)(before.params)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"], optax.tree.norm(grads), rtol=1e-4)
    np.testing.assert_allclose(metrics["param_norm"], optax.tree.norm(after.params), rtol=1e-6)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, before.params, grads)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), after.params, expected)
    assert int(after.step) == 1


def test_frozen_parameters_have_no_gradient() -> None:
    net, tx = ToyNet(norm=False), optax.sgd(0.1)
    state, _ = _built(net, 0.1, None, 0, 1, False)
    frozen = {"stem": {"kernel": True, "bias": True}, "head": {"kernel": False, "bias": False}}
    step = make_train_step(net, ToyTask(), tx, transform, schedule=lambda s: jnp.float32(0.1), frozen=frozen)
    after, metrics = jax.jit(step)(state, BATCH)
    (_, free), _ = _run(net)
    assert bitwise_equal(after.params["stem"], state.params["stem"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), after.params["head"], free.params["head"])
    moved = jax.tree.map(lambda a, b: (a - b) / 0.1, state.params["head"], after.params["head"])
    np.testing.assert_allclose(metrics["grad_norm"], optax.tree.norm(moved), rtol=1e-4)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulation_is_the_full_batch(accumulate: int) -> None:
    """Images hold very different numbers of void pixels: a mean of micro-batch means would differ."""
    (_, full), one = _run(ToyNet(norm=False))
    (_, parts), many = _run(ToyNet(norm=False), accumulate=accumulate)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), full.params, parts.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), one, many)


def test_accumulation_carries_statistics_from_part_to_part() -> None:
    (before, after), _ = _run(ToyNet(), accumulate=2)
    key, _ = jax.random.split(jax.random.fold_in(jax.random.key(0), 0))
    images = transform(key, BATCH)["image"]
    stats = before.model_state
    for part in (images[0::2], images[1::2]):
        _, stats = ToyNet().apply({"params": before.params, **stats}, part, train=True, mutable=["batch_stats"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), after.model_state, stats)


@pytest.mark.parametrize("remat", ["elementwise", "all"])
def test_remat_changes_nothing_but_memory(remat) -> None:
    (_, plain), _ = _run(ToyNet(dropout=0.5))
    (_, again), _ = _run(ToyNet(dropout=0.5), remat=remat)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), plain, again)


def test_remat_repeats_the_convolutions_only_where_all_is_recomputed() -> None:
    def convolutions(remat):
        state, step = _built(ToyNet(), 0.1, None, 0, 1, remat)
        return step.lower(state, BATCH).as_text().count("stablehlo.convolution")

    assert convolutions("elementwise") == convolutions("none") < convolutions("all")


def test_average_follows_its_formula_and_evaluation_uses_it() -> None:
    states, _ = _run(ToyNet(), 4, ema=0.2)
    ema = jax.tree.map(np.asarray, states[0].params)
    for step, state in enumerate(states[1:]):
        decay = min(0.2, (1 + step) / (10 + step))
        ema = jax.tree.map(lambda e, p, d=decay: d * e + (1 - d) * np.asarray(p), ema, state.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), states[-1].ema, ema)
    assert states[-1].eval_variables["params"] is states[-1].ema
    assert states[-1].eval_variables["batch_stats"] is states[-1].model_state["batch_stats"]


def test_randomness_is_the_seeds_and_the_steps() -> None:
    net = ToyNet(dropout=0.5, norm=False)
    (_, a), _ = _run(net)
    (_, b), _ = _run(net)
    (_, c), _ = _run(net, seed=1)
    assert bitwise_equal(a, b)
    assert not bitwise_equal(a.params, c.params)
    # With a zero rate two steps differ in nothing but their randomness.
    _, first = _run(net, 1, rate=0.0)
    _, second = _run(net, 2, rate=0.0)
    assert float(first["loss"]) != float(second["loss"])
