"""The memory table: its parts add up, what is known is what one counts by hand, and what would fit."""

from __future__ import annotations

import types

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from segjax.planning import memory
from segjax.training.state import TrainState

MESH = AbstractMesh((2, 4, 2), ("data", "fsdp", "spatial"), axis_types=(AxisType.Auto,) * 3)


def _shape(shape, *spec, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(MESH, P(*spec)))


def test_known_parts_are_what_one_counts_by_hand():
    params = {"kernel": _shape((3, 3, 64, 128), None, None, None, "fsdp"), "bias": _shape((128,))}
    tx = optax.adam(1e-3)
    moments = jax.eval_shape(tx.init, params)
    placed = jax.tree.map(
        lambda leaf: _shape(leaf.shape, *((None, None, None, "fsdp") if leaf.ndim == 4 else ())), moments
    )
    state = TrainState(
        step=_shape((), dtype=jnp.int32),
        params=params,
        model_state={"batch_stats": {"mean": _shape((128,))}},
        opt_state=placed,
        ema=params,
    )
    batch = {
        "image": _shape((16, 32, 64, 3), ("data", "fsdp"), "spatial", dtype=jnp.uint8),
        "valid": _shape((16,), dtype=bool),
    }
    own = 4 * (3 * 3 * 64 * 128 // 4 + 128)  # the kernel over four, the bias whole
    assert memory.arguments(state, batch) == {
        "parameters": own,
        "optimiser_state": 2 * own + 4 + 4,  # two moments, Adam's counter, the step
        "statistics": 4 * 128,
        "average": own,
        "batch": 16 // 8 * 32 // 2 * 64 * 3 + 16,
    }


def _stats(**changes):
    sizes = {"argument": 1000, "output": 900, "alias": 880, "temp": 5000, "generated_code": 70, **changes}
    peak = sizes.pop("peak", 0)
    return types.SimpleNamespace(peak_memory_in_bytes=peak, **{f"{k}_size_in_bytes": v for k, v in sizes.items()})


KNOWN = {"parameters": 400, "optimiser_state": 404, "statistics": 16, "average": 0, "batch": 96}


def test_the_parts_add_up_to_what_the_compiler_says():
    parts = memory.table(KNOWN, _stats())
    assert list(parts) == list(memory.PARTS)
    assert sum(parts.values()) == 1000 + (900 - 880) + 5000 + 70
    assert parts["layout"] == 1000 - 916


def test_a_higher_peak_counts_and_a_lower_one_does_not():
    assert sum(memory.table(KNOWN, _stats(peak=7000)).values()) == 7000
    assert sum(memory.table(KNOWN, _stats(peak=6000)).values()) == 6090


def test_the_refusal_of_a_tpus_compiler_tells_the_sizes():
    text = (
        "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for HLO "
        "temporaries (45.11G) exceeds available HBM (15.75G). HLO module: jit_step."
    )
    assert memory.refused(text) == (45.11 * 2**30, 15.75 * 2**30)
    assert memory.refused("INTERNAL: something else") is None


def _measured(fixed, slope):
    asked = []

    def measure(batch):
        asked.append(batch)
        return fixed + slope * batch

    return measure, asked


def test_one_smaller_batch_and_a_line_find_the_largest():
    measure, asked = _measured(100.0, 10.0)
    found = memory.largest_batch(64, measure(64), fixed=60, available=300, unit=4, measure=measure)
    assert found["fits"] == found["predicted"] == 20  # 100 + 10 * 20 = 300
    assert all(size % 4 == 0 for size in asked)
    assert max(found["compiled"].items()) == (64, 740.0)


def test_a_cautious_first_guess_leaves_more_by_the_line():
    measure, _ = _measured(0.0, 10.0)
    found = memory.largest_batch(64, 640, fixed=200, available=400, unit=4, measure=measure)
    assert found["fits"] < found["predicted"] == 40


def test_where_not_even_the_smallest_fits_there_is_none():
    measure, asked = _measured(500.0, 10.0)
    found = memory.largest_batch(64, measure(64), fixed=100, available=300, unit=8, measure=measure)
    assert found["fits"] is None
    assert found["predicted"] is None
    assert min(asked) == 8


def test_steps_do_not_lead_to_the_smallest():
    # A chip holds eight images at a time: of 33 to 64 over four chips as much as of 64.
    measure = lambda batch: 10.0 * (-(-batch // 32) * 32)  # noqa: E731
    found = memory.largest_batch(64, measure(64), fixed=100, available=500, unit=4, measure=measure)
    assert found["compiled"] == {64: 640.0, 44: 640.0, 20: 320.0}
    assert (found["fits"], found["predicted"]) == (20, 32)


@pytest.mark.parametrize("size", [8, 16])
def test_the_batch_that_failed_is_never_suggested(size):
    # Rounding can make a line let through what the compiler refused.
    found = memory.largest_batch(size, 301, fixed=300, available=300, unit=8, measure=lambda batch: 200.0)
    assert found["fits"] is None if size == 8 else found["predicted"] == 8
