"""The train step: one function for every task.

Shape legend: B batch over all devices, H height, W width, C image channels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from segjax.tasks.base import Batch, Task, Transform
from segjax.training.forward import forward
from segjax.training.state import TrainState

Metrics = dict[str, jax.Array]


def make_train_step(
    model: Any,
    task: Task,
    tx: optax.GradientTransformation,
    transform: Transform | None = None,
    *,
    schedule: Callable[[jax.Array], jax.Array],
    seed: int = 0,
    accumulate: int = 1,
    ema_decay: float | None = None,
    remat: str = "none",
    frozen: Any = None,
    axis: str | None = None,
    reduce_dtype: Any = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """A pure function (state, batch) -> (state, metrics), to be jitted with the state donated.

    All randomness of step t (augmentation, dropout) comes from `fold_in(key(seed), t)`, so a resumed run repeats what
    an undisturbed one does. The terms of the loss are sums divided by weights of the *whole* batch, which
    `task.weights` takes from the batch alone: gradients of micro-batches, like those of devices, then add up to the
    full batch's. Batch normalisation sees the micro-batch, and so do `task.counts`, times its share of the samples.
    Profiles and plans name what is outside the network `augmentation`, `loss` and `update`.

    Args:
      model: a network; `apply(variables, images, train=True, ...)` returns the outputs the task reads.
      task: whose loss is minimised.
      tx: optimiser.
      transform: augmentation, (key, batch) -> batch with float32 `image` [B, H, W, C]; None for batches that have been
        through it, those of `training.features` among them.
      schedule: learning rate by step, for the log.
      seed: the run's.
      accumulate: micro-batches, one after the other; divides B.
      ema_decay: decay of the parameters' moving average; the state must hold one.
      remat: what of the network's activations the backward pass recomputes: `none`, `all`, or what is `elementwise`,
        keeping the results of convolutions and matrix products.
      frozen: True for the parameters that no gradient is computed for; None for none. Statistics move all the same.
      axis: mapped axis over devices that each call the step with their part of the batch (`parallel.replicated`); None
        where arrays are global. Devices then draw their own augmentation and dropout, other than a global batch would.
      reduce_dtype: in which gradients are added over `axis`; None: their own, float32.

    Returns:
      The step. Its metrics are float32 scalars: `loss`, the task's parts of it, `grad_norm` (before clipping),
      `param_norm`, `learning_rate`.
    """

    apply = functools.partial(forward, model, task)
    if remat != "none":
        apply = jax.checkpoint(apply, policy=_is_product if remat == "elementwise" else None)

    def total(tree: Any, dtype: Any = None) -> Any:
        if axis is None:
            return tree
        return jax.tree.map(lambda x: jax.lax.psum(x.astype(dtype or x.dtype), axis).astype(x.dtype), tree)

    def loss_fn(params: Any, model_state: Any, batch: Batch, weights: Any, key: jax.Array) -> tuple[Any, Any]:
        if frozen is not None:
            params = jax.tree.map(lambda still, p: jax.lax.stop_gradient(p) if still else p, frozen, params)
        outputs, updated = apply(params, model_state, batch, key)
        with jax.named_scope("loss"):
            counts = jax.lax.stop_gradient(task.counts(outputs, batch))
            # Of a micro-batch, as if the others had counted as much: its share of the loss is then that of its samples.
            counts = jax.tree.map(lambda n: accumulate * n, total(counts))
            loss, parts = task.loss(outputs, batch, {**weights, **counts}, jax.random.fold_in(key, 2))
        return loss.astype(jnp.float32), (updated, {"loss": loss, **parts})

    gradient = jax.grad(loss_fn, has_aux=True)

    def whole(state: TrainState, batch: Batch, weights: Any, key: jax.Array) -> tuple[Any, Any, Metrics]:
        grads, (model_state, parts) = gradient(state.params, state.model_state, batch, weights, key)
        return grads, model_state, parts

    def split(state: TrainState, batch: Batch, weights: Any, key: jax.Array) -> tuple[Any, Any, Metrics]:
        # Micro-batch i takes samples i, i + accumulate, ...: each device keeps the samples it already holds.
        micro = jax.tree.map(
            lambda x: jnp.swapaxes(x.reshape(x.shape[0] // accumulate, accumulate, *x.shape[1:]), 0, 1), dict(batch)
        )

        def body(carry: tuple[Any, Any], item: tuple[jax.Array, Batch]) -> tuple[tuple[Any, Any], Metrics]:
            total, model_state = carry
            index, part = item
            grads, (model_state, parts) = gradient(
                state.params, model_state, part, weights, jax.random.fold_in(key, index)
            )
            return (jax.tree.map(jnp.add, total, grads), model_state), parts

        zeros = jax.tree.map(jnp.zeros_like, state.params)
        (grads, model_state), parts = jax.lax.scan(body, (zeros, state.model_state), (jnp.arange(accumulate), micro))
        return grads, model_state, jax.tree.map(lambda x: jnp.sum(x, axis=0), parts)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        if axis is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis))
        augment_key, dropout_key = jax.random.split(key)
        if transform is not None:
            with jax.named_scope("augmentation"):
                batch = transform(augment_key, batch)
        weights = total(task.weights(batch))
        grads, model_state, metrics = (split if accumulate > 1 else whole)(state, batch, weights, dropout_key)
        grads, metrics = total(grads, reduce_dtype), total(metrics)
        with jax.named_scope("update"):
            updates, opt_state = tx.update(grads, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
            ema = None if state.ema is None else _average(state.ema, params, state.step, ema_decay)
        metrics |= {
            "grad_norm": optax.tree.norm(grads),
            "param_norm": optax.tree.norm(params),
            "learning_rate": schedule(state.step),
        }
        return TrainState(state.step + 1, params, model_state, opt_state, ema), metrics

    return step


def _is_product(primitive: Any, *_: Any, **__: Any) -> bool:
    """What `jax.checkpoint` keeps where the rest is recomputed: what is dear to make."""
    return primitive.name in ("conv_general_dilated", "dot_general")


def _average(ema: Any, params: Any, step: jax.Array, decay: float) -> Any:
    """`d * ema + (1 - d) * params` with d = min(decay, (1 + t) / (10 + t)) at step t.

    The bound, that of TensorFlow's ExponentialMovingAverage with `num_updates`, lets short runs forget their initial
    values.
    """
    rate = 1 - jnp.minimum(decay, (1.0 + step) / (10.0 + step)).astype(jnp.float32)
    return jax.tree.map(lambda average, value: average + rate * (value - average), ema, params)
