"""What every architecture's `test` variant computes at fixed variables and images, recorded in golden.json.

A refactoring must leave these numbers as they are, to float32 rounding. Where a change of them is meant, this file run
as a module records them anew: `python -m tests.contract.golden [NAME ...]`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from segjax.core.schema import AUX_LOGITS, BORDER_LOGITS, LOGITS

PATH = Path(__file__).with_name("golden.json")
WRITE = "python -m tests.contract.golden"
TOLERANCE = {"gradient": 5e-3}
"""Of `difference`; others 1e-4. With the compiler's passes and without, under jax 0.10 and 0.11, outputs differ by up
to 2.5e-5, gradients by 1e-4, but those of bisenet and dfn (1.6e-3, 5e-4), which normalise maps of a few pixels."""
PLACES = 4


def read() -> dict[str, dict[str, list[float]]]:
    """{network: {what: [root mean square, value, ...]}}."""
    return json.loads(PATH.read_text())


def measure(compiled: Any) -> dict[str, list[float]]:
    """The size and a few values of the logits, in evaluation and training, of the statistics, and of the gradient.

    Args:
      compiled: a `Compiled` of the contract suite.
    """
    value, out, state, gradient = compiled.outcomes[0]
    evaluated = compiled.evaluate(compiled.variables, compiled.images(0))
    return {
        "loss": [float(value)],
        "evaluation": _summary(evaluated[LOGITS]),
        "training": _summary(out[LOGITS]),
        "auxiliary": _summary(out.get(AUX_LOGITS, ())),
        "border": _summary(out.get(BORDER_LOGITS, ())),
        "statistics": _summary(state),
        "gradient": _summary(gradient),
    }


def agree(what: str, found: Sequence[float], recorded: Sequence[float]) -> bool:
    """Whether two records of `what` differ by rounding only."""
    return difference(found, recorded) < TOLERANCE.get(what, 1e-4)


def difference(found: Sequence[float], recorded: Sequence[float]) -> float:
    """The largest difference, as a share of the root mean square (the first number) or the largest value beside it."""
    found, recorded = np.asarray(found), np.asarray(recorded)
    if found.shape != recorded.shape:
        return float("inf")
    return float(np.abs(found - recorded).max(initial=0.0) / max(np.abs(recorded).max(initial=0.0), 1e-12))


def _summary(tree: Any) -> list[float]:
    """[root mean square, then the values at `PLACES` places] of a tree's leaves in the order of paths; [] of none."""
    leaves = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)]
    if not leaves:
        return []
    flat = np.concatenate(leaves)
    places = np.random.default_rng(0).integers(flat.size, size=PLACES)
    return [float(np.sqrt(np.mean(flat**2))), *flat[places].tolist()]


def main(names: Sequence[str]) -> None:
    from tests.contract.test_networks import TESTS, Compiled

    record = read() if PATH.exists() else {}
    for name in names or TESTS:
        record[name] = {key: [float(f"{x:.7g}") for x in values] for key, values in measure(Compiled(name)).items()}
        print(name, record[name]["loss"], flush=True)
    lines = [f"{json.dumps(name)}: {json.dumps(record[name])}" for name in sorted(record)]
    PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
