"""Instructions priced and summed by the module that jax traced them in; the estimators and their bracket."""

from __future__ import annotations

import pytest

from segjax.planning.chips import TPUS, Chip
from segjax.planning.hlo import parse
from segjax.planning.operations import origin, price
from segjax.planning.timing import estimate, optimal_seconds

V5E = TPUS["v5e"]


@pytest.mark.parametrize(
    ("op_name", "module", "operation", "backward"),
    [
        ("jit(step)/jvp(UNet)/down1/conv/conv_general_dilated", "UNet/down1/conv", "conv_general_dilated", False),
        ("jit(step)/transpose(jvp(UNet))/down1/norm/reduce_sum", "UNet/down1/norm", "reduce_sum", True),
        ("jit(step)/transpose(jvp(Net))/Net._up/jit(local)/shard_map/checkpoint/add_any", "Net", "add_any", True),
        ("jit(step)/jvp(Net)/encoder/encoder._stem/stem/mul;jit(step)/other", "Net/encoder/stem", "mul", False),
        ("jit(step)/augmentation/vmap(jit(_take))/gather", "augmentation", "gather", False),
        ("jit(step)/mul", "(outside the network)", "mul", False),
        ("jit(step)/transpose(jvp(Net))/(a/jit(f)/ppermute:b/jit(f)/ppermute)", "Net/a", "ppermute", True),
        ("broadcast.145", "(compiler)", "fusion", False),
        ("", "(compiler)", "fusion", False),
    ],
)
def test_where_an_operation_comes_from(op_name, module, operation, backward):
    found = origin(op_name, "fusion")
    assert (found.module, found.operation, found.backward) == (module, operation, backward)


def _named(name: str) -> str:
    return f'metadata={{op_name="jit(step)/jvp(Net)/{name}"}}'


def _cycles(count: int) -> str:
    return f'backend_config={{"window_config":{{"estimated_cycles":"{count}"}}}}'


STEP = f"""\
HloModule jit_step

ENTRY %main (p.1: f32[64,128]) -> f32[64,128] {{
  %p.1 = f32[64,128]{{1,0}} parameter(0)
  %copy.1 = f32[64,128]{{0,1}} copy(%p.1), {_named("b/copy")}, {_cycles(1_000)}
  %dot.1 = f32[64,64]{{1,0}} dot(%p.1, %copy.1), lhs_contracting_dims={{1}}, rhs_contracting_dims={{1}}, {_named("a/dot")}, {_cycles(6_000)}
  %dot.2 = f32[64,64]{{1,0}} dot(%p.1, %copy.1), lhs_contracting_dims={{1}}, rhs_contracting_dims={{1}}, {_named("a/dot")}, {_cycles(3_000)}
  %sort.1 = f32[64,64]{{1,0}} sort(%dot.1), dimensions={{0}}, {_named("c/sort")}
  ROOT %r = f32[64,128]{{1,0}} all-reduce(%p.1), replica_groups={{}}, {_named("d/psum")}
}}
"""  # noqa: E501


def test_cycles_are_summed_by_module_and_what_has_none_is_listed():
    rows, priced = price(parse(STEP), V5E)
    assert [(row["module"], row["operation"], row["count"]) for row in rows[:2]] == [
        ("Net/a", "dot", 2),
        ("Net/b", "copy", 1),
    ]
    assert [row["share"] for row in rows[:2]] == [0.9, 0.1]
    assert rows[0]["seconds"] == pytest.approx(9_000 / 1.5e9)
    assert rows[0]["flops"] == 2 * (2 * 64 * 64 * 128)
    assert rows[1]["bytes"] == 2 * 4 * 64 * 128
    assert priced == {"cycles": 10_000, "seconds": None, "priced": 3, "unpriced": {"sort": 1, "all-reduce": 1}}


def test_without_cycles_each_operation_takes_its_own_roofline():
    rows, priced = price(parse(STEP), Chip("x", flops=1e9, bandwidth=1e9, memory=1.0))
    dot = max(2 * 64 * 64 * 128 / 1e9, 4 * (2 * 64 * 128 + 64 * 64) / 1e9)
    assert rows[0]["seconds"] == pytest.approx(2 * dot)
    assert priced["seconds"] == pytest.approx(sum(row["seconds"] for row in rows))
    assert priced["cycles"] is None


def test_the_optimal_seconds_get_back_what_custom_calls_took():
    assert optimal_seconds({"optimal_seconds": -236.88}) == pytest.approx(0.12)
    assert optimal_seconds({"optimal_seconds": 0.5}) == 0.5
    assert optimal_seconds({}) is None
    assert optimal_seconds(None) is None


def test_the_bracket_spans_the_estimators_and_the_exchange_is_hidden_at_one_end_only():
    found = estimate(V5E, flops=197e9, nbytes=819e7, optimal=0.012, cycles=30_000_000, operations=None, sent=1e8)
    by_name = {row["name"]: row["seconds"] for row in found["estimators"]}
    assert by_name == pytest.approx({"arithmetic": 1e-3, "traffic": 1e-2, "rooflines": 0.012, "cycles": 0.02})
    assert found["exchange_seconds"] == pytest.approx(1e-3)  # 100 MB over one of two dimensions of 200 GB/s
    assert found["seconds"] == pytest.approx([1e-2, 0.021])
    assert not found["one_sided"]
    assert all(row["leaves_out"] for row in found["estimators"])


def test_one_estimator_is_told_to_be_one_and_none_gives_none():
    chip = Chip("x", flops=1e12, bandwidth=None, memory=1.0)
    options = {"nbytes": None, "optimal": None, "cycles": None, "operations": None, "sent": 0.0}
    found = estimate(chip, flops=1e9, **options)
    assert found["one_sided"]
    assert found["seconds"] == [1e-3, 1e-3]
    assert estimate(chip, flops=None, **options)["seconds"] is None
