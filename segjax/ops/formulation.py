"""Which formulation an operation takes on which backend and at which size: the one table, and how to override it.

The same convolution can be written in several ways that XLA compiles very differently. `benchmarks/formulations.py`
measures them one against the other; a rule that nobody measured on its backend says so, and keeps XLA's own
convolution.

A choice is made while tracing. A function that is already compiled keeps the formulation it was traced with.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType

import jax


@dataclasses.dataclass(frozen=True)
class Rule:
    """What one operation does on one backend.

    Attributes:
      choice: the formulation of sizes that fit; the others take XLA's own, "native".
      measured: by which measurement it was chosen; empty: by none on that backend.
      channels: at least so many, in the image and in the result.
      rate: at least.
      taps: at most so many in the kernel.
      ratio: of the image's and the result's channels, the more to the fewer, at least.
      pixels: of the whole batch, at least.
    """

    choice: str = "native"
    measured: str = ""
    channels: int = 0
    rate: int = 0
    taps: float = math.inf
    ratio: float = 1.0
    pixels: int = 0


_CPU = "benchmarks/results/formulations_cpu.json"
_NETWORKS = "benchmarks/results/whole_networks_cpu.json"
# Split although no GPU or TPU has timed it: XLA's own grouped convolution gathers the whole batch as soon as an array
# is split over devices (openxla/xla#47945).
_UNMEASURED = {
    "pointwise": (Rule(),),
    "depthwise": (Rule(),),
    "grouped": (Rule("split"),),
    "unstrided": (Rule(),),
    "stem": (Rule(),),
    "kernel_gradient": (Rule(),),
    # Fewer products and no concatenation: the same on every backend.
    "join": (Rule("early"),),
    "relu_of_sum": (Rule(),),
    "kept": (Rule(),),
}
TABLE: Mapping[str, Mapping[str, tuple[Rule, ...]]] = {
    "cpu": {
        # In ENet (4 to 32 channels inside) a step with products takes as long or longer, and longer to compile.
        "pointwise": (Rule("dot", _CPU, channels=64),),
        # Each tap is a slice: the gain falls with their number, and the time to compile grows with it.
        "depthwise": (Rule("shift", _CPU, taps=49),),
        "grouped": (Rule("split", _CPU),),
        "unstrided": (
            # Kernels of one row, column or point; of few channels XLA divides a row finely enough.
            Rule("long_rows", _CPU, taps=1),
            Rule("long_rows", _CPU, channels=32),
            # Taps outside the image cost nothing when cropped; at small rates nearly all are inside.
            Rule("crop", _CPU, channels=128, rate=12),
            # Of few pixels the kernel's transform costs more than is saved.
            Rule("winograd", _CPU, channels=96, taps=9, pixels=1024),
            # The widest layers are dear to XLA at any rate.
            Rule("crop", _CPU, channels=1024, taps=9),
            Rule("crop", _CPU, channels=512, ratio=4, taps=9),
        ),
        "stem": (Rule("native", _CPU),),
        "kernel_gradient": (
            Rule("products", _NETWORKS, taps=3),
            Rule("winograd", _CPU, channels=64, taps=9, pixels=1024),
            # Products read the image once a tap: worth it for wide layers, and those that narrow or widen.
            Rule("products", _NETWORKS, channels=96),
            Rule("products", _NETWORKS, channels=8, ratio=2, taps=9),
        ),
        "join": (Rule("early", _NETWORKS),),
        "relu_of_sum": (Rule("select", _NETWORKS),),
        "kept": (Rule("call", _NETWORKS),),
    },
    "gpu": _UNMEASURED,
    "tpu": _UNMEASURED,
}

_override: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar(
    "formulations", default=MappingProxyType({})
)


def formulation(
    operation: str,
    *,
    channels: int = 0,
    rate: int = 1,
    taps: int = 1,
    ratio: float = 1.0,
    pixels: int = 0,
    barred: Collection[str] = (),
) -> str:
    """The formulation to trace now: the first rule's that fits, or XLA's own.

    Args:
      operation: pointwise, depthwise, grouped, unstrided (what the others leave, at stride 1), stem,
        kernel_gradient, join, relu_of_sum or kept.
      channels: of the image or the result, the fewer.
      rate: the larger of rows' and columns'.
      taps: of the kernel.
      ratio: of the image's and the result's channels, the more to the fewer.
      pixels: of the whole batch.
      barred: formulations that cannot be taken here.
    """
    choices = _override.get()
    if operation in choices:
        return "native" if choices[operation] in barred else choices[operation]
    backend = choices.get("backend") or jax.default_backend()
    for rule in TABLE.get(backend, _UNMEASURED)[operation]:
        fits = channels >= rule.channels and rate >= rule.rate and taps <= rule.taps
        if fits and ratio >= rule.ratio and pixels >= rule.pixels and rule.choice not in barred:
            return rule.choice
    return "native"


@contextlib.contextmanager
def formulations(*, backend: str | None = None, **choices: str) -> Iterator[None]:
    """Trace under another choice: `formulations(backend="tpu")` when compiling ahead of time for a TPU from a machine
    without one, `formulations(depthwise="native")` to compare (whatever the size)."""
    if backend is not None:
        choices["backend"] = backend
    token = _override.set({**_override.get(), **choices})
    try:
        yield
    finally:
        _override.reset(token)
