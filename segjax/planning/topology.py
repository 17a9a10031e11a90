"""Devices that are not there: `v5e:16x16`, `cuda:h100:8`, or simulated ones, `cpu:8`."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import re
from collections.abc import Sequence
from typing import Any

from segjax.core.errors import ConfigError, suggest
from segjax.planning.chips import GIB, GPUS, SHAPES, TPUS, Chip, gpu_target

# What libtpu reads when it is loaded: no metadata server, no lock between two plans.
_TPU_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-16",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
LIBTPU = "0.0.42"
"""The libtpu that jax 0.10.2 was built with; with another, programs of some chips cannot be printed."""


@dataclasses.dataclass(frozen=True)
class Topology:
    """Where a program is compiled for.

    Attributes:
      name: as given.
      platform: tpu, cuda or cpu.
      chip: of one device.
      devices: jax devices, of a backend only on `cpu`.
    """

    name: str
    platform: str
    chip: Chip
    devices: Sequence[Any]

    @property
    def chips(self) -> int:
        return len(self.devices) // self.chip.devices


def parse(name: str) -> tuple[str, str, str]:
    """(platform, chip, shape or number) of a topology's name; imports no jax.

    Raises:
      ConfigError: where no such topology is known.
    """
    family, _, rest = name.partition(":")
    if family == "cpu" and re.fullmatch(r"[1-9]\d*", rest):
        return "cpu", "cpu", rest
    if family == "cuda":
        chip, _, count = rest.partition(":")
        if chip in GPUS and re.fullmatch(r"[1-9]\d*", count):
            return "cuda", chip, count
        if chip in GPUS:
            raise ConfigError(f"--topology: {name!r} says no number of GPUs; such as cuda:{chip}:8.")
        raise ConfigError(f"--topology: {name!r} is no GPU that segjax plans for.{suggest(chip, GPUS)}")
    if family in TPUS:
        axes = len(SHAPES[family].split("x"))
        if re.fullmatch(rf"[1-9]\d*(x[1-9]\d*){{{axes - 1}}}", rest):
            return "tpu", family, rest
        raise ConfigError(
            f"--topology: {name!r} is no slice of a {family}, whose shapes have {axes} numbers, such as "
            f"{family}:{SHAPES[family]}."
        )
    known = {**{f"{chip}:{shape}": chip for chip, shape in SHAPES.items()}, "cuda:h100:8": "cuda", "cpu:8": "cpu"}
    near = suggest(family, known.values())
    if near.startswith(" Did"):
        raise ConfigError(f"--topology: {name!r} is unknown.{near}")
    raise ConfigError(f"--topology: {name!r} is unknown; known are names like {', '.join(known)}.")


def count_devices(name: str) -> int:
    """jax devices of a topology, by its name alone."""
    platform, chip, shape = parse(name)
    return math.prod(map(int, shape.split("x"))) * (TPUS[chip].devices if platform == "tpu" else 1)


def open_topology(name: str) -> Topology:
    """The devices of a topology. No accelerator is touched.

    Raises:
      ConfigError: an unknown one, a compiler that is not installed, or a `cpu` topology after jax made its devices.
    """
    platform, chip, shape = parse(name)
    if platform == "cpu":
        return _simulated(name, int(shape))
    if platform == "tpu":
        os.environ.update({key: value for key, value in _TPU_ENVIRONMENT.items() if key not in os.environ})
        return Topology(name, "tpu", TPUS[chip], _tpu_devices(name))
    return Topology(name, "cuda", GPUS[chip], _gpu_devices(GPUS[chip], int(shape)))


def _tpu_devices(name: str) -> list[Any]:
    import importlib.metadata

    import jax
    from jax.experimental import topologies

    try:
        version = importlib.metadata.version("libtpu")
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError(
            f"--topology={name} needs libtpu, the TPUs' compiler: pip install 'segjax[plan]' (700 MB; no TPU needed)."
        ) from None
    if jax.__version__ == "0.10.2" and not version.startswith(f"{LIBTPU}."):
        raise ConfigError(f"libtpu {version} does not match jax {jax.__version__}: pip install 'libtpu=={LIBTPU}.*'.")
    try:
        # A v4 chip's two cores work as one device in a run; left alone, a topology would have two.
        options = {"chip_config_name": "megacore"} if name.startswith("v4") else {}
        return list(topologies.get_topology_desc(platform="tpu", topology_name=name, **options).devices)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        if "not divisible" in reason:
            raise ConfigError(
                f"--topology: {name!r} is not made of whole hosts of 2x2 chips; make both sides even."
            ) from error
        raise ConfigError(f"--topology: {name!r}: libtpu says {reason}") from error


def _gpu_devices(chip: Chip, count: int) -> list[Any]:
    from jax.experimental import topologies

    try:
        found = topologies.get_topology_desc(platform="cuda", topology=f"1x1x{count}", target_config=gpu_target(chip))
    except NotImplementedError as error:
        raise ConfigError(
            "--topology=cuda needs jax's CUDA plugin: pip install 'segjax[cuda]' (no GPU needed)."
        ) from error
    return list(found.devices)


def _simulated(name: str, count: int) -> Topology:
    import jax

    with contextlib.suppress(RuntimeError):  # the devices were made before; they may be enough
        jax.config.update("jax_num_cpu_devices", count)
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise ConfigError(
            f"--topology: {name!r} needs {count} simulated devices, and jax has already made {len(devices)}; plan in a "
            "process of its own."
        )
    return Topology(name, "cpu", Chip("cpu", None, None, host_memory() / count, lanes=1, sublanes=1), devices[:count])


def host_memory() -> float:
    """Bytes of this machine's memory; simulated devices share it."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError):  # no such figure on this system
        return 16.0 * GIB
