"""The training loop: resume, steps, log, evaluation, checkpoints, in a straight line."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from segjax.core.cleanup import Cleanup
from segjax.core.config import Config, best_metric, to_dict
from segjax.core.errors import ConfigError
from segjax.core.lock import owned
from segjax.core.schema import DatasetInfo
from segjax.parallel.mesh import make_mesh
from segjax.parallel.transfer import check_batch_size
from segjax.parallel.watchdog import Watchdog
from segjax.tasks.base import Task, Transform
from segjax.training.checkpoint import Checkpointer
from segjax.training.features import FeatureCache
from segjax.training.history import History
from segjax.training.preemption import Preemption
from segjax.training.pretrained import pretrained
from segjax.training.program import make_program
from segjax.training.state import TrainState, init_state, init_variables
from segjax.training.throughput import Meter, peak_flops, step_flops
from segjax.training.writer import Console, Writer, train_line


class Result(NamedTuple):
    """How a run ended.

    Attributes:
      state: the last state.
      step: steps done; fewer than asked for when `interrupted`.
      metrics: of the last evaluation.
      interrupted: name of the signal that ended the run early, or None.
    """

    state: TrainState
    step: int
    metrics: dict[str, Any]
    interrupted: str | None


def train(
    config: Config,
    *,
    model: Any,
    task: Task,
    transform: Transform | None,
    batches: Iterator[Mapping[str, Any]],
    info: DatasetInfo,
    steps: int,
    workdir: str | Path,
    samples: int | None = None,
    evaluate: Callable[[TrainState], Mapping[str, Any]] | None = None,
    resume: bool = False,
    variables: Mapping[str, Any] | None = None,
    watchdog: Watchdog | None = None,
) -> Result:
    """Trains for `steps` optimiser steps and leaves checkpoints and logs in `workdir`.

    A run killed at any step and resumed does what an undisturbed one does, bit for bit on CPUs: checkpoints hold the
    data iterator, and a step's randomness depends on the seed and the step alone.

    Args:
      config: the run's.
      model: the network.
      task: whose loss is minimised.
      transform: augmentation on the device, (key, batch) -> batch.
      batches: endless; this process's share of each batch as numpy arrays; `get_state()` and `set_state()` move it.
      info: the data set's, kept in checkpoints.
      steps: optimiser steps of the whole run, those before a resumption included.
      workdir: the run's folder.
      samples: in the training split, for `config.train.cache_features`; batches then say which samples they hold.
      evaluate: scores a state; the numbers of its result are logged, and rank checkpoints. None: no evaluation.
      resume: go on from the last whole checkpoint in `workdir`, or start where there is none.
      variables: initial variables; default: the network's own, by `config.seed`. `config.init` goes into them.
      watchdog: is told where this process stands among several.

    Raises:
      ConfigError: a batch size or mesh that does not fit the devices.
      BusyError: another process writes to `workdir`.
      CheckpointError: `workdir` holds another run.
      StorageError: no space left, or `workdir` cannot be written to (any more); earlier checkpoints stay whole.
      SegjaxError: a loss that is not finite, where `config.train.stop_on_nan` is set.
    """
    settings = config.train
    watchdog = watchdog or Watchdog()
    first = jax.process_index() == 0
    with Cleanup() as cleanup:
        cleanup.enter_context(owned(workdir, active=first))
        mesh = make_mesh(config.parallel.data, config.parallel.spatial, config.parallel.fsdp)
        check_batch_size(settings.batch_size, mesh, accumulate=settings.accumulate)
        checkpointer = Checkpointer(workdir, config=to_dict(config), info=info, best=best_metric(config), resume=resume)
        cleanup.callback(checkpointer.close)

        # --- State: shapes first, then either a checkpoint's values or initial ones, made where they will live.
        if variables is None:
            variables = init_variables(model, config.seed, task.input_shape(info, config.data.crop_size))
        program = make_program(
            config,
            model=model,
            task=task,
            transform=None if settings.cache_features else transform,
            variables=variables,
            mesh=mesh,
            steps=steps,
        )
        restored = checkpointer.restore("last", program.state) if resume else None
        if restored is None:
            if config.init.checkpoint is not None:
                variables = pretrained(config.init, variables, info)
            rules, ema = config.parallel.rules, settings.ema is not None
            state, start, metrics = init_state(variables, program.tx, mesh, ema=ema, rules=rules), 0, {}
        else:
            state, start, metrics = restored.state, restored.step, restored.metrics
            batches.set_state(restored.iterator)
        del variables, restored
        cache = None
        if settings.cache_features:
            multipliers = config.optim.multipliers
            cache = FeatureCache(model, task, transform, state, multipliers=multipliers, samples=samples, mesh=mesh)

        eval_every = settings.eval_every or max(1, math.ceil(steps / 10))
        save_every = config.checkpoint.every or eval_every

        writer = Writer(
            workdir,
            name=config.name,
            config=to_dict(config),
            tensorboard=config.log.tensorboard,
            wandb=config.log.wandb,
            resume_step=start,
            active=first,
        )
        cleanup.callback(writer.close)
        console = Console(steps, start=start, active=first)
        cleanup.callback(console.close)
        if start:
            console.line(f"resumed from step {start} of {workdir}")
        peak = peak_flops(mesh.devices.flatten().tolist())  # measured on CPUs, which an ambient mesh would spread out
        history = History(settings.stop_on_nan, console)
        compiled, meter, interrupted = None, None, None
        step, saved = start, start
        with program.ambient(), Preemption() as preemption:
            while step < steps and interrupted is None:
                watchdog.at(step + 1, "waiting for data")
                asked = time.perf_counter()
                batch = next(batches) if cache is None else cache(next(batches))
                waited = time.perf_counter() - asked
                batch = program.put(batch)
                if compiled is None:  # once, for the shape of the first batch
                    watchdog.at(doing="compilation", patient=True)
                    began = time.perf_counter()
                    lowered = program.step.lower(state, batch)
                    compiled = lowered.compile()
                    console.line(f"compiled the train step in {time.perf_counter() - began:.1f} s")
                    flops = step_flops(lowered, repeats=settings.accumulate * program.parts)
                    meter = Meter(settings.batch_size, flops, peak)
                    waited = 0.0  # before the clock started

                step += 1
                watchdog.at(step, "train step")
                state, values = compiled(state, batch)
                history.add(step, values)
                meter.add(waited)
                console.advance(step)
                interrupted = preemption.requested(step) if step < steps else None

                due_eval = evaluate is not None and (step % eval_every == 0 or step == steps)
                due_save = step % save_every == 0 or step == steps or due_eval or interrupted is not None
                if step % settings.log_every == 0 or step == steps or due_save:
                    record = history.drain() | meter.rates()
                    writer.write(step, "train", record)
                    console.line(train_line(step, steps, record))
                    meter.reset()
                scores = None
                if due_eval and interrupted is None:  # a machine that is taken away has no time for it
                    watchdog.at(step, "evaluation", patient=True)
                    scores = metrics = dict(evaluate(state))
                    writer.write(step, "eval", scores)
                    console.line(eval_line(step, scores))
                if due_save:
                    watchdog.at(step, "checkpoint", patient=True)
                    checkpointer.save(step, state, iterator=batches.get_state(), metrics=scores)
                    saved = step
                if due_eval or due_save:
                    meter.reset()
    if interrupted is not None and first:
        print(f"{interrupted}: saved step {saved} of {steps} in {workdir}; go on with --resume.", flush=True)
    return Result(state, step, metrics, interrupted)


def eval_line(step: int, scores: Mapping[str, Any]) -> str:
    """`evaluation at step 40: NAME 0.4312  ...`, the scores that are numbers."""
    numbers = [f"{key} {float(value):.4f}" for key, value in scores.items() if np.ndim(value) == 0]
    return f"evaluation at step {step}: {'  '.join(numbers)}"


def steps_of(config: Config, samples: int) -> int:
    """Optimiser steps of a run over `samples` training images.

    Raises:
      ConfigError: where neither steps nor epochs are set.
    """
    if config.train.steps is not None:
        return config.train.steps
    if config.train.epochs is None:
        raise ConfigError("config.train.steps: set it, or config.train.epochs.")
    return max(1, math.ceil(config.train.epochs * samples / config.train.batch_size))
