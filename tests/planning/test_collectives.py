"""Collectives read from program texts: their groups in every spelling, bytes by a ring, axes of the mesh."""

from __future__ import annotations

import pytest

from segjax.planning.collectives import collectives, totals
from segjax.planning.hlo import parse

MESH = {"data": 2, "fsdp": 2, "spatial": 2}


def _program(line: str, before: str = ""):
    return parse(
        "HloModule m\n\nENTRY %main (p.1: f32[4,8]) -> f32[4,8] {\n  %p.1 = f32[4,8]{1,0} parameter(0)\n"
        f"{before}  ROOT {line}\n}}\n"
    )


def _one(line: str, before: str = ""):
    (found,) = collectives(_program(line, before), MESH)
    return found


@pytest.mark.parametrize(
    ("groups", "axes"),
    [
        ("{{0,1},{2,3},{4,5},{6,7}}", ("spatial",)),
        ("[4,2]<=[8]", ("spatial",)),
        ("[2,4]<=[4,2]T(1,0)", ("data", "fsdp")),
        ("[4,2]<=[2,2,2]T(0,2,1)", ("fsdp",)),
        ("[1,8]<=[8]", ("data", "fsdp", "spatial")),
        ("{}", ("data", "fsdp", "spatial")),
        ("mesh['axis_0'=4,'axis_1'=2,'axis_2'=1] {'axis_1'}", ("spatial",)),
        ("mesh['axis_0'=4,'axis_1'=2,'axis_2'=1] {'axis_0'}", ("data", "fsdp")),
        ("{{0,3},{1,2},{4,7},{5,6}}", ()),
    ],
)
def test_every_spelling_of_the_groups_gives_the_axes(groups, axes):
    found = _one(f"%r = f32[4,8]{{1,0}} all-reduce(%p.1), channel_id=1, replica_groups={groups}, to_apply=%add")
    assert found.axes == axes


@pytest.mark.parametrize(
    ("line", "bytes_", "sent"),
    [
        ("%r = f32[4,8]{1,0} all-reduce(%p.1), replica_groups=[2,4]<=[8], to_apply=%add", 128, 2 * 3 / 4 * 128),
        ("%r = f32[16,8]{1,0} all-gather(%p.1), replica_groups=[2,4]<=[8], dimensions={0}", 512, 3 / 4 * 512),
        ("%r = f32[1,8]{1,0} reduce-scatter(%p.1), replica_groups=[2,4]<=[8], dimensions={0}", 32, 3 * 32),
        ("%r = f32[4,8]{1,0} all-to-all(%p.1), replica_groups=[2,4]<=[8], dimensions={0}", 128, 3 / 4 * 128),
        ("%r = f32[4,8]{1,0} collective-permute(%p.1), source_target_pairs={{0,1},{2,3}}", 128, 128),
        ("%r = (f32[4,8]{1,0}, bf16[6]{0}) all-reduce(%p.1, %p.1), replica_groups=[2,4]<=[8]", 140, 2 * 3 / 4 * 140),
    ],
)
def test_bytes_are_a_rings(line, bytes_, sent):
    found = _one(line)
    assert (found.bytes, found.sent) == (bytes_, sent)


def test_a_permutation_lies_along_the_axis_of_its_pairs():
    assert _one("%r = f32[4,8]{1,0} collective-permute(%p.1), source_target_pairs={{1,0},{3,2}}").axes == ("spatial",)
    assert _one("%r = f32[4,8]{1,0} collective-permute(%p.1), source_target_pairs={{0,4},{4,0}}").axes == ("data",)


def test_an_asynchronous_pair_is_one_collective_of_the_results_bytes():
    start = (
        "  %s = (f32[4,8]{1,0}, f32[16,8]{1,0}) all-gather-start(%p.1), replica_groups=[2,4]<=[8], dimensions={0}, "
        'metadata={op_name="jit(step)/x"}\n'
    )
    found = _one("%r = f32[16,8]{1,0} all-gather-done(%s)", start)
    assert (found.kind, found.bytes, found.group, found.asynchronous) == ("all-gather", 512, 4, True)
    assert found.module == "jit(step)/x"


def test_sums_by_kind_and_axes():
    before = "".join(
        f"  %r{i} = f32[4,8]{{1,0}} all-reduce(%p.1), replica_groups=[4,2]<=[8], to_apply=%add\n" for i in range(3)
    )
    program = _program("%r = f32[4,8]{1,0} all-reduce(%p.1), replica_groups=[1,8]<=[8], to_apply=%add", before)
    every, spatial = sorted(totals(collectives(program, MESH)), key=lambda row: row["count"])
    assert (spatial["count"], spatial["bytes"], spatial["bytes_sent"]) == (3, 384, 384)
    assert (every["devices"], every["bytes_sent"]) == (8, 224)
