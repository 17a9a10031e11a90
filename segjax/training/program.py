"""The program a run compiles: its step, and the shapes and shardings of the state. Training and planning share it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from segjax.core.config import Config
from segjax.core.errors import ConfigError
from segjax.parallel.replicated import AXIS, over_batch, pmapped, to_replicas
from segjax.parallel.sharding import check_rules, replicated
from segjax.parallel.transfer import to_global
from segjax.tasks.base import Task, Transform
from segjax.training.optim import frozen_mask, make_optimizer
from segjax.training.schedules import make_schedule
from segjax.training.state import TrainState, abstract_state
from segjax.training.step import make_train_step


class Program(NamedTuple):
    """What is compiled and run.

    Attributes:
      step: jitted (state, batch) -> (state, metrics); takes the state over.
      state: shapes, dtypes and shardings of the state.
      tx: the optimiser.
      put: this process's share of a batch, from the host to its devices.
      ambient: context in which the step is lowered and called.
      parts: into how many the batch is split before the step sees it; the lowered program is that of one part.
    """

    step: Any
    state: TrainState
    tx: optax.GradientTransformation
    put: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    ambient: Callable[[], contextlib.AbstractContextManager[Any]]
    parts: int


def make_program(
    config: Config,
    *,
    model: Any,
    task: Task,
    transform: Transform | None,
    variables: Mapping[str, Any],
    mesh: Mesh,
    steps: int,
) -> Program:
    """The train step of a config on a mesh; nothing is compiled yet.

    Args:
      config: the run's.
      model: the network.
      task: a `tasks.base.Task`.
      transform: augmentation on the device, (key, batch) -> batch.
      variables: the network's, or their shapes.
      mesh: of the run, or of a topology that is not there.
      steps: of the whole run, for the schedule.

    Raises:
      ConfigError: rows split over devices, for a network that takes whole images.
    """
    if config.parallel.spatial > 1 and not getattr(model, "rows_split", True):
        raise ConfigError(
            f"config.parallel.spatial: {config.parallel.spatial}, but {config.model.name} takes images whole; set it "
            "to 1, and spread the batch."
        )
    pmap, written_out = config.parallel.backend == "pmap", config.parallel.gradients != "auto"
    axis = AXIS if pmap or written_out else None
    step, tx = make_step(
        config, model=model, task=task, transform=transform, params=variables["params"], steps=steps, axis=axis
    )
    state = abstract_state(variables, tx, mesh, ema=config.train.ema is not None, rules=config.parallel.rules)
    check_rules(config.parallel.rules, state)
    if pmap:
        run, put, ambient = pmapped(step, mesh), to_replicas, contextlib.nullcontext
    else:
        shardings = (jax.tree.map(lambda leaf: leaf.sharding, state), replicated(mesh))
        run = jax.jit(
            over_batch(step, mesh, config.parallel.gradients) if written_out else step,
            donate_argnums=0,
            out_shardings=shardings,
        )
        put, ambient = to_global, functools.partial(jax.set_mesh, mesh)
    return Program(
        step=run,
        state=state,
        tx=tx,
        put=functools.partial(put, mesh=mesh),
        ambient=ambient,
        parts=1 if axis is None else mesh.shape[axis],
    )


def make_step(
    config: Config,
    *,
    model: Any,
    task: Task,
    transform: Transform | None,
    params: Any,
    steps: int,
    axis: str | None = None,
) -> tuple[Callable[..., Any], optax.GradientTransformation]:
    """The step of a config, not yet jitted, and its optimiser.

    `params` are the parameters or their shapes; `axis` as in `make_train_step`.
    """
    settings = config.train
    schedule = make_schedule(config.schedule, config.optim.learning_rate, steps)
    tx = make_optimizer(config.optim, schedule, params)
    step = make_train_step(
        model,
        task,
        tx,
        transform,
        schedule=schedule,
        seed=config.seed,
        accumulate=settings.accumulate,
        ema_decay=settings.ema,
        remat=settings.remat,
        frozen=frozen_mask(params, config.optim.multipliers),
        axis=axis,
        reduce_dtype=jnp.bfloat16 if config.parallel.gradients == "bfloat16" else None,
    )
    return step, tx
