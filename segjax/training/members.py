"""Several runs as one program: the train step of each, vmapped, on states stacked along the first axis.

Each member leaves in its own workdir what a run of its own leaves, checkpoints included, so that it can be evaluated,
resumed or compared like any other. What differs between members enters the program as arguments, weakly typed, as the
Python numbers they stand for are.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from segjax.core.cleanup import Cleanup
from segjax.core.config import Config, best_metric, refuse_cached_features, to_dict
from segjax.core.errors import ConfigError, SegjaxError
from segjax.core.lock import owned
from segjax.core.schema import DatasetInfo
from segjax.parallel.members import members_mesh, over_members, put_members, rows_of
from segjax.parallel.mesh import make_mesh
from segjax.parallel.transfer import check_batch_size
from segjax.training.checkpoint import Checkpointer, committed_steps
from segjax.training.history import History
from segjax.training.loop import eval_line
from segjax.training.preemption import Preemption
from segjax.training.pretrained import pretrained
from segjax.training.program import make_program, make_step
from segjax.training.state import TrainState, init_state, init_variables
from segjax.training.step import Transform
from segjax.training.throughput import Meter
from segjax.training.writer import Console, Writer, train_line


@dataclasses.dataclass(frozen=True)
class Member:
    """One run among those that share a program.

    Attributes:
      config: its own; members differ in numbers that are arguments of the program.
      model: its own network, for its initial variables.
      task: its own task.
      batches: its own stream; members of one seed may share one.
      workdir: its folder.
      variables: initial variables; default: the network's own, by the seed.
    """

    config: Config
    model: Any
    task: Any
    batches: Iterator[Mapping[str, Any]]
    workdir: Path
    variables: Mapping[str, Any] | None = None


class MembersResult(NamedTuple):
    """How the members ended.

    Attributes:
      states: the last state of each, on one device.
      step: steps done.
      failed: {position: why}, members whose loss became non-finite; their last checkpoint stays.
      interrupted: name of the signal that ended the runs early, or None.
    """

    states: list[TrainState]
    step: int
    failed: dict[int, str]
    interrupted: str | None


def train_members(
    members: Sequence[Member],
    *,
    arguments: Mapping[str, Sequence[Any]],
    build: Callable[[Mapping[str, Any]], tuple[Any, Any]],
    transform: Transform | None,
    info: DatasetInfo,
    steps: int,
    evaluate: Callable[[int, TrainState], Mapping[str, Any]] | None = None,
) -> MembersResult:
    """Trains all members for `steps` optimiser steps; goes on from the last step of which every one has a checkpoint.

    Args:
      members: the runs.
      arguments: {key: one value a member}, what they differ in. `seed`, `optim.learning_rate` and `optim.weight_decay`
        go into the step here, all others into `build`; values may be pytrees.
      build: (traced values of one member) -> (network, task) of the program.
      transform: augmentation on the device.
      info: the data set's.
      steps: of the whole runs.
      evaluate: (position, its state) -> scores.

    Raises:
      ConfigError, BusyError, CheckpointError, StorageError: as `segjax.training.loop.train`.
    """
    config = members[0].config
    settings = config.train
    if config.parallel.spatial * config.parallel.fsdp > 1:
        raise ConfigError(
            "config.parallel: members of one program are split over devices whole; set spatial=1, fsdp=1."
        )
    refuse_cached_features(config, "a program of several members")
    mesh, alone = members_mesh(len(members)), make_mesh(devices=jax.local_devices()[:1])
    check_batch_size(settings.batch_size, alone, accumulate=settings.accumulate)
    with Cleanup() as cleanup:
        for one in members:
            cleanup.enter_context(owned(one.workdir))
        checkpointers = [
            Checkpointer(one.workdir, config=to_dict(one.config), info=info, best=best_metric(one.config), resume=True)
            for one in members
        ]
        for checkpointer in checkpointers:
            cleanup.callback(checkpointer.close)

        # --- States: each member's as its own run would have it, then stacked.
        states, start = _start(members, checkpointers, transform, info, steps, alone)
        own = [jax.tree.structure(state) for state in states]
        leaves = [jax.device_get(jax.tree.leaves(state)) for state in states]
        params = jax.eval_shape(lambda tree: tree, states[0].params)

        # --- The program.
        def member_step(values: Mapping[str, Any], state: TrainState, batch: Any) -> Any:
            model, task = build(values)
            step, _ = make_step(
                _with_arguments(config, values), model=model, task=task, transform=transform, params=params, steps=steps
            )
            return step(state, batch)

        rows = rows_of(len(members), mesh)
        values = put_members(_stack_arguments(arguments, rows), mesh)
        settled = dict(model=None, task=None, transform=None, params=params, steps=steps)
        # The optimiser's state has a place for a traced weight decay, none for one of 0; neither has leaves.
        moments = jax.eval_shape(
            lambda values, params: make_step(_with_arguments(config, values), **settled)[1].init(params),
            jax.tree.map(lambda x: x[0], values),
            params,
        )
        together = jax.tree.structure(dataclasses.replace(states[0], opt_state=moments))
        shared = all(one.batches is members[0].batches for one in members)
        step_fn = jax.jit(over_members(member_step, mesh, (True, True, not shared)), donate_argnums=1)
        stacked = [np.stack(column) for column in zip(*(leaves[row] for row in rows))]
        state = put_members(jax.tree.unflatten(together, stacked), mesh)
        take = jax.jit(lambda tree, row: jax.tree.map(lambda x: x[row], tree))
        del states, leaves, stacked

        def of_member(position: int) -> TrainState:
            own_leaves = jax.device_put(jax.tree.leaves(take(state, position)), alone.devices.flat[0])
            return jax.tree.unflatten(own[position], own_leaves)

        writers = [
            Writer(
                one.workdir,
                name=one.config.name,
                config=to_dict(one.config),
                tensorboard=one.config.log.tensorboard,
                wandb=None,  # a process has one run there; the members' numbers are in their files
                resume_step=start,
            )
            for one in members
        ]
        for writer in writers:
            cleanup.callback(writer.close)
        console = Console(steps, start=start)
        cleanup.callback(console.close)
        pending, histories = History(True, console), [History(settings.stop_on_nan, console) for _ in members]
        eval_every = settings.eval_every or max(1, math.ceil(steps / 10))
        save_every = config.checkpoint.every or eval_every
        if start:
            console.line(f"resumed {len(members)} members from step {start}")
        failed: dict[int, str] = {}
        compiled, meter, interrupted, step, saved = None, None, None, start, start
        with Preemption() as preemption:
            while step < steps and interrupted is None and len(failed) < len(members):
                asked = time.perf_counter()
                batch = _stack_batches([one.batches for one in members], rows, shared)
                waited = time.perf_counter() - asked
                batch = jax.device_put(batch) if shared and mesh.size == 1 else batch
                if not shared:
                    batch = put_members(batch, mesh)
                if compiled is None:
                    began = time.perf_counter()
                    compiled = step_fn.lower(values, state, batch).compile()
                    console.line(f"compiled {len(members)} members' step in {time.perf_counter() - began:.1f} s")
                    meter = Meter(settings.batch_size, None, None)
                    waited = 0.0  # before the clock started
                state, metrics = compiled(values, state, batch)
                step += 1
                pending.add(step, metrics)
                meter.add(waited)
                console.advance(step)
                interrupted = preemption.requested(step) if step < steps else None

                due_eval = evaluate is not None and (step % eval_every == 0 or step == steps)
                due_save = step % save_every == 0 or step == steps or due_eval or interrupted is not None
                if step % settings.log_every == 0 or step == steps or due_save:
                    records = _log(step, pending, histories, writers, meter.rates(), failed)
                    console.line(_members_line(step, steps, records))
                    meter.reset()
                left = [position for position in range(len(members)) if position not in failed]
                scores: dict[int, dict[str, Any]] = {}
                if due_eval and interrupted is None:
                    for position in left:
                        scores[position] = dict(evaluate(position, of_member(position)))
                        writers[position].write(step, "eval", scores[position])
                        console.line(f"{members[position].config.name}: {eval_line(step, scores[position])}")
                if due_save:
                    # All have the step before, before any has this one: there is always one that they share.
                    for checkpointer in checkpointers:
                        checkpointer.wait()
                    for position in left:
                        checkpointers[position].save(
                            step,
                            of_member(position),
                            iterator=members[position].batches.get_state(),
                            metrics=scores.get(position),
                        )
                    saved = step
                if due_eval or due_save:
                    meter.reset()
    if interrupted is not None:
        print(f"{interrupted}: saved step {saved} of {steps}; the same command goes on.", flush=True)
    return MembersResult([of_member(position) for position in range(len(members))], step, failed, interrupted)


def _start(
    members: Sequence[Member],
    checkpointers: Sequence[Checkpointer],
    transform: Transform | None,
    info: DatasetInfo,
    steps: int,
    alone: Any,
) -> tuple[list[TrainState], int]:
    """Each member's state at the last step that all have whole, and that step; the streams are moved there."""
    variables, programs = [], []
    for one in members:
        size = (*one.config.data.crop_size, info.channels)
        variables.append(one.variables or init_variables(one.model, one.config.seed, size))
        own = dict(model=one.model, task=one.task, transform=transform, mesh=alone, steps=steps)
        programs.append(make_program(one.config, variables=variables[-1], **own))
    held = [set(committed_steps(checkpointer.directory)) for checkpointer in checkpointers]
    for step in sorted(set.intersection(*held), reverse=True):
        restored = [one.restore(step, program.state) for one, program in zip(checkpointers, programs)]
        if None not in restored:
            for one, found in zip(members, restored):
                one.batches.set_state(found.iterator)
            _forget_after(checkpointers, step)
            return [found.state for found in restored], step
    _forget_after(checkpointers, 0)
    states = []
    for one, initial, program in zip(members, variables, programs):
        if one.config.init.checkpoint is not None:
            initial = pretrained(one.config.init, initial, info)
        states.append(init_state(initial, program.tx, alone, ema=one.config.train.ema is not None))
    return states, 0


def _forget_after(checkpointers: Sequence[Checkpointer], step: int) -> None:
    """Removes the steps that only some members reached before a kill; they are made again."""
    for checkpointer in checkpointers:
        for later in committed_steps(checkpointer.directory):
            if later > step:
                shutil.rmtree(checkpointer.directory / str(later))


def _with_arguments(config: Config, values: Mapping[str, Any]) -> Any:
    """The config with traced numbers in it, unchecked: the checks of `Config` want numbers they can compare."""
    optim = {key.removeprefix("optim."): value for key, value in values.items() if key.startswith("optim.")}
    changed = {"optim": dataclasses.replace(config.optim, **optim), "seed": values.get("seed", config.seed)}
    return types.SimpleNamespace(**{**vars(config), **changed})


def _stack_arguments(arguments: Mapping[str, Sequence[Any]], rows: Sequence[int]) -> dict[str, Any]:
    def stack(*leaves: Any) -> jax.Array:
        # A Python number becomes a weakly typed array, which takes the type of what it meets, as the number does.
        return jnp.stack([jnp.asarray(np.int64(leaf) if isinstance(leaf, int) else leaf) for leaf in leaves])

    return {key: jax.tree.map(stack, *(values[row] for row in rows)) for key, values in arguments.items()}


def _stack_batches(streams: Sequence[Iterator[Mapping[str, Any]]], rows: Sequence[int], shared: bool) -> dict[str, Any]:
    """The next batch of every stream, stacked by row, or the one that all share; numeric arrays only."""
    found = {id(stream): next(stream) for stream in {id(stream): stream for stream in streams}.values()}
    kept = [
        {key: np.asarray(value) for key, value in batch.items() if np.asarray(value).dtype.kind in "biuf"}
        for batch in (found[id(stream)] for stream in streams)
    ]
    if shared:
        return kept[0]
    return {key: np.stack([kept[row][key] for row in rows]) for key in kept[0]}


def _log(
    step: int,
    pending: History,
    histories: Sequence[History],
    writers: Sequence[Writer],
    rates: Mapping[str, float],
    failed: dict[int, str],
) -> list[dict[str, float]]:
    """Writes each member's record; notes in `failed` those whose loss is not finite. Records of the others."""
    steps, values = pending.fetch()
    records = []
    for position, (history, writer) in enumerate(zip(histories, writers)):
        if position in failed:
            continue
        try:
            own = history.record(steps, [{key: value[position] for key, value in one.items()} for one in values])
        except SegjaxError as error:
            failed[position] = str(error)
            continue
        records.append({**own, **rates})
        writer.write(step, "train", records[-1])
    return records


def _members_line(step: int, steps: int, records: Sequence[Mapping[str, float]]) -> str:
    """`train_line` of the members' means, images/s of all together, with the range of their losses."""
    if not records:
        return f"step {step}/{steps}: no member's loss is finite"
    mean = {key: float(np.mean([record[key] for record in records])) for key in records[0]}
    mean["images_per_second"] *= len(records)
    losses = [record["loss"] for record in records]
    return f"{train_line(step, steps, mean)}  losses {min(losses):.4f} to {max(losses):.4f}"
