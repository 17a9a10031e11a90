"""A train step compiled for devices that are not there, and what the result says."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from segjax.core.config import Config
from segjax.core.errors import ConfigError
from segjax.ops.formulation import formulations
from segjax.parallel.mesh import SPATIAL, batch_shards, make_mesh
from segjax.parallel.sharding import batch_sharding
from segjax.parallel.transfer import check_batch_size
from segjax.planning import memory
from segjax.planning.advice import advise
from segjax.planning.collectives import collectives, totals
from segjax.planning.hlo import parse
from segjax.planning.operations import price
from segjax.planning.timing import estimate, optimal_seconds
from segjax.planning.topology import Topology
from segjax.training.program import make_program
from segjax.training.throughput import cpu_peak_flops, flops_of, step_flops

Shapes = Mapping[str, jax.ShapeDtypeStruct]
DEAREST = 10

# XLA's own products of matrices need a device to be tuned on.
_OPTIONS = {"cuda": {"xla_gpu_enable_triton_gemm": False}}
# Nothing is this large: the compiler says at once what it needs, instead of recomputing until that is there. Where it
# is, the program is the same.
_NOTHING_RECOMPUTED = {"xla_tpu_rematerialization_min_size_in_bytes": 2**50}
# A chip without memory: whatever the step needs is told, and no code made.
_REFUSED = {**_NOTHING_RECOMPUTED, "xla_tpu_max_hbm_size_mib": 1}
_RECOMPUTED = 1.25
"""Of the memory there is: what needs more is not tried with recomputation unless asked for, which had no answer in
eleven minutes where 1.6 times as much was needed."""
_BACKENDS = {"cuda": "gpu"}


def plan(
    config: Config,
    *,
    model: Any,
    task: Any,
    transform: Any,
    input_shape: Sequence[int],
    batch: Callable[[int], Shapes],
    topology: Topology,
    steps: int,
    would_fit: bool = True,
    recompute: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Compiles the step that `training.loop.train` would run, and reads the result. Nothing runs.

    Args:
      config: the run's.
      model, task, transform, steps: as `train` takes them.
      input_shape: of one input of the network (`Task.input_shape`).
      batch: the shapes of a batch of so many samples, with crop or window as the host sends them.
      topology: of `open_topology`.
      would_fit: look for a batch that fits where this one does not, by compiling smaller ones.
      recompute: let a TPU's compiler recompute until the step fits, however much memory is missing.
      say: told what is being done.

    Returns:
      A record of JSON values; docs/planning.md describes it.

    Raises:
      ConfigError: a mesh, batch or image height that does not divide.
    """
    began, worked = time.perf_counter(), time.process_time()
    if topology.platform == "cpu" and config.train.dtype != "float32":
        raise ConfigError(
            f"config.train.dtype: XLA's compiler for CPUs aborts on some {config.train.dtype} programs that are split "
            f"over devices; set it to float32 to plan on {topology.name}."
        )
    mesh = make_mesh(config.parallel.data, config.parallel.spatial, config.parallel.fsdp, devices=topology.devices)
    size = config.train.batch_size
    check_batch_size(size, mesh, accumulate=config.train.accumulate)
    _check_height(mesh, config.data.crop_size[0])
    subject = _Subject(config, model, task, transform, input_shape, batch, steps, topology)
    unit = batch_shards(mesh) * config.train.accumulate

    say(f"compiling {config.model.name} for {topology.name}, {size} images a step")
    compiled = _compile_to_fit(subject, mesh, size, recompute, say)
    flops = _model_flops(subject, size)
    available = topology.chip.memory
    record = {
        "note": "Predictions of a compiler and of stated peaks. Nothing here has run on the devices named.",
        "name": config.name,
        "model": config.model.name,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(compiled.state.params)),
        "crop_size": list(config.data.crop_size),
        "dtype": config.train.dtype,
        "batch_size": size,
        "batch_per_device": size / batch_shards(mesh),
        "topology": {
            "name": topology.name,
            "platform": topology.platform,
            "kind": topology.devices[0].device_kind,
            "chips": topology.chips,
            "devices": len(topology.devices),
            "mesh": dict(mesh.shape),
        },
    }
    if compiled.program is None:
        needed, available = compiled.refused
        record |= {"fits": False, "memory": _memory(compiled.known, None, needed, available)}
    else:
        parts = memory.table(compiled.known, compiled.stats)
        needed = sum(parts.values())
        record |= {"fits": needed <= available, "memory": _memory(parts, compiled.stats, needed, available)}
        record |= _reading(subject, compiled, mesh, size, flops, parts)
    record["memory"]["without_recomputation"] = compiled.without_recomputation
    if not record["fits"] and would_fit:
        needed = compiled.without_recomputation or needed  # as those it is compared with
        record["would_fit"] = _would_fit(subject, mesh, size, needed, available, compiled.known, unit, say)
    record["seconds"] = {
        **{key: round(value, 1) for key, value in compiled.seconds.items()},
        "all": round(time.perf_counter() - began, 1),
        "all_cpu": round(time.process_time() - worked, 1),
    }
    return record


class _Subject:
    """What is compiled, whatever the batch."""

    def __init__(self, config, model, task, transform, input_shape, batch, steps, topology):
        self.config, self.model, self.task, self.transform = _jitted(config), model, task, transform
        self.batch, self.steps, self.topology = batch, steps, topology
        self.stride = getattr(model, "stride", 1)
        inputs = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
        with self.formulations():
            self.variables = jax.eval_shape(lambda key, x: model.init(key, x), jax.random.key(0), inputs)

    def formulations(self):
        """Operations are traced as the topology's backend would have them."""
        return formulations(backend=_BACKENDS.get(self.topology.platform, self.topology.platform))

    def program(self, mesh: Mesh) -> Any:
        return make_program(
            self.config,
            model=self.model,
            task=self.task,
            transform=self.transform,
            variables=self.variables,
            mesh=mesh,
            steps=self.steps,
        )

    def placed(self, size: int, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
        return {
            key: jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=batch_sharding(mesh, key, value.shape))
            for key, value in self.batch(size).items()
        }


def _jitted(config: Config) -> Config:
    """pmap's program by way of jit, which can be compiled for devices that are not there."""
    parallel = config.parallel
    if parallel.backend != "pmap":
        return config
    gradients = "float32" if parallel.gradients == "auto" else parallel.gradients
    return dataclasses.replace(config, parallel=dataclasses.replace(parallel, backend="jit", gradients=gradients))


class _Compiled:
    """A compiled step, or the compiler's refusal.

    `without_recomputation`: bytes needed where the compiler was left to recompute; None where it was not.
    """

    without_recomputation: float | None = None

    def __init__(self, state, known, seconds, executable=None, refused=None):
        self.state, self.known, self.seconds, self.refused = state, known, seconds, refused
        self.program = None if executable is None else parse(executable.as_text())
        self.stats = None if executable is None else executable.memory_analysis()
        self.analysis = None if executable is None else executable.cost_analysis()


def _compile_to_fit(subject: _Subject, mesh: Mesh, size: int, recompute: bool, say) -> _Compiled:
    """The step as a run would compile it: where memory is short, and not hopelessly so, with the compiler's own
    recomputation."""
    plain = _compile(subject, mesh, size)
    if plain.refused is None:
        return plain
    needed, available = plain.refused
    if needed > _RECOMPUTED * available and not recompute:
        return plain
    say(f"{needed / 2**30:.2f} GiB do not fit into {available / 2**30:.2f}; compiling with recomputation")
    again = _compile(subject, mesh, size, options=None)
    again.without_recomputation = needed
    again.seconds = {key: value + plain.seconds[key] for key, value in again.seconds.items()}
    return again


def _compile(
    subject: _Subject, mesh: Mesh, size: int, options: Mapping[str, Any] | None = _NOTHING_RECOMPUTED
) -> _Compiled:
    """The step for one batch size; `refused` where a TPU's compiler, with these options, runs out of memory."""
    platform = subject.topology.platform
    seconds = {}
    program, batch = subject.program(mesh), subject.placed(size, mesh)
    known = memory.arguments(program.state, batch)
    with program.ambient(), subject.formulations():
        began = time.perf_counter()
        traced = program.step.trace(program.state, batch)
        lowered = traced.lower(lowering_platforms=(platform,)) if platform != "cpu" else traced.lower()
        seconds["trace"] = time.perf_counter() - began
        began = time.perf_counter()
        options = options if platform == "tpu" else _OPTIONS.get(platform)
        try:
            executable = lowered.compile(compiler_options=options)
        except jax.errors.JaxRuntimeError as error:
            sizes = memory.refused(str(error))
            if sizes is None:
                raise ConfigError(
                    f"{subject.topology.name}: the compiler failed: {str(error).splitlines()[0]}"
                ) from error
            executable, refused = None, sizes
        else:
            refused = None
        seconds["compile"] = time.perf_counter() - began
    return _Compiled(program.state, known, seconds, executable, refused)


def _model_flops(subject: _Subject, size: int) -> float | None:
    """FLOPs of a step over all devices, counted as the training log does: of the unpartitioned program."""
    mesh = make_mesh(devices=jax.devices("cpu")[:1])
    program = subject.program(mesh)
    with program.ambient(), subject.formulations():
        lowered = program.step.lower(program.state, subject.placed(size, mesh))
    return step_flops(lowered, repeats=subject.config.train.accumulate)


def _memory(parts: Mapping[str, int], stats: Any, needed: float, available: float) -> dict[str, Any]:
    names = ("argument", "output", "alias", "temp", "generated_code")
    compiler = {name: getattr(stats, f"{name}_size_in_bytes") for name in names} if stats else None
    if stats is not None and getattr(stats, "peak_memory_in_bytes", None):
        compiler["peak"] = stats.peak_memory_in_bytes
    return {
        "parts": dict(parts),
        "complete": stats is not None,
        "needed": needed,
        "available": available,
        "headroom": available - needed,
        "compiler": compiler,
    }


def _reading(
    subject: _Subject, compiled: _Compiled, mesh: Mesh, size: int, flops: float | None, parts
) -> dict[str, Any]:
    topology, config = subject.topology, subject.config
    chip, count = topology.chip, len(topology.devices)
    if chip.flops is None:  # simulated devices share this machine's cores
        chip = dataclasses.replace(chip, flops=cpu_peak_flops() / count)
    peak = chip.flops
    exchanged = collectives(compiled.program, dict(mesh.shape))
    rows, priced = price(compiled.program, chip)
    analysis = compiled.analysis if isinstance(compiled.analysis, Mapping) else (compiled.analysis or [None])[0]
    device_flops = flops_of(analysis) or (flops / count if flops else None)
    device_bytes = (analysis or {}).get("bytes accessed")
    sent = sum(one.times * one.sent for one in exchanged)
    times = estimate(
        chip,
        flops=device_flops,
        nbytes=device_bytes,
        optimal=optimal_seconds(analysis),
        cycles=priced["cycles"],
        operations=priced["seconds"],
        sent=sent,
    )
    spans = times["seconds"]
    if spans:
        fast, slow = size / spans[0], size / spans[1]
        times["images_per_second"] = [slow, fast]
        times["images_per_second_per_chip"] = [slow / topology.chips, fast / topology.chips]
        times["mfu"] = [flops / (count * peak * span) for span in reversed(spans)] if flops else None
    shards = [(leaf.shape, leaf.sharding.shard_shape(leaf.shape)) for leaf in jax.tree.leaves(compiled.state.params)]
    return {
        "work": {
            "model_flops": flops,
            "device_flops": device_flops,
            "device_flops_are": "the compiler's" if flops_of(analysis) else "the model's, shared evenly",
            "device_bytes": device_bytes,
            "peak_flops": peak,
        },
        "collectives": totals(exchanged),
        "timing": times,
        "operations": rows[:DEAREST],
        "operations_shown": sum(row["share"] for row in rows[:DEAREST]),
        "unpriced": priced["unpriced"],
        "priced": priced["priced"],
        "open_loops": compiled.program.open_loops,
        "advice": advise(
            compiled.program,
            chip,
            mesh=dict(mesh.shape),
            batch=size,
            crop=config.data.crop_size,
            stride=subject.stride,
            parameters=[shape for pair in shards for shape in pair],
            exchanged=exchanged,
            memory=parts,
            available=chip.memory,
        ),
    }


def _would_fit(subject, mesh, size, needed, available, known, unit, say) -> dict[str, Any]:
    fixed = sum(value for key, value in known.items() if key != "batch")

    def measure(smaller: int) -> float:
        say(f"{needed / 2**30:.2f} GiB do not fit into {available / 2**30:.2f}; compiling {smaller} images a step")
        compiled = _compile(subject, mesh, smaller, _REFUSED)
        if compiled.program is None:
            return compiled.refused[0]
        return float(sum(memory.table(compiled.known, compiled.stats).values()))

    found = memory.largest_batch(size, needed, fixed=fixed, available=available, unit=unit, measure=measure)
    return {
        "batch_size": found["fits"],
        "predicted_largest": found["predicted"],
        "compiled": {str(batch): value for batch, value in found["compiled"].items()},
        "unit": unit,
    }


def _check_height(mesh: Mesh, height: int) -> None:
    parts = mesh.shape[SPATIAL]
    if height % parts:
        near = max(1, round(height / parts)) * parts
        raise ConfigError(
            f"config.data.crop_size: {height} rows do not divide over config.parallel.spatial={parts}; take a height "
            f"such as {near}, or another spatial."
        )
