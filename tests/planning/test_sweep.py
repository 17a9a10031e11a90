"""Candidates that divide, their ranking, and that one that fails costs only itself."""

from __future__ import annotations

import json
import sys

from segjax.planning.sweep import Candidate, candidates, lines, rank, sweep

GIB = 2**30


def test_only_what_divides_is_tried():
    found = set(candidates({"cpu:8": 8}, [8, 12], [1, 2, 3], [1, 4]))
    assert found == {
        Candidate("cpu:8", 8, 1, 1),
        Candidate("cpu:8", 8, 1, 4),
        Candidate("cpu:8", 8, 2, 1),
        Candidate("cpu:8", 8, 2, 4),
        Candidate("cpu:8", 12, 2, 1),
        Candidate("cpu:8", 12, 2, 4),
    }
    assert not list(candidates({"cpu:8": 8}, [8], [1], [1], unit=2))


def _row(batch, needed, rate, error=None):
    plan = {
        "fits": needed <= GIB,
        "memory": {"needed": needed, "available": GIB},
        "timing": {"seconds": [0.1, 0.2], "images_per_second_per_chip": rate, "mfu": [0.1, 0.2]},
    }
    return {
        "topology": "v5e:2x2",
        "batch_size": batch,
        "spatial": 1,
        "fsdp": 1,
        "plan": None if error else plan,
        "error": error,
    }


def test_what_fits_is_ranked_by_the_slow_end_and_stands_before_what_does_not():
    rows = [
        _row(1, GIB, [5.0, 9.0]),
        _row(2, 3 * GIB, [90.0, 99.0]),
        _row(3, GIB, [7.0, 8.0]),
        _row(4, 0, [], error="took longer than 1 minutes"),
        _row(5, 2 * GIB, None),
    ]
    ranked = rank(rows)
    assert [row["batch_size"] for row in ranked] == [3, 1, 2, 5, 4]
    shown = "\n".join(lines(ranked))
    assert "2.00 GiB too much" in shown
    assert "not planned: took longer than 1 minutes" in shown


# Stands for `segjax plan`: batch 2 fails as it does, batch 3 hangs, the others write a plan.
CHILD = """
import json, pathlib, sys, time
options = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:])
batch = int(options["config.train.batch_size"])
if batch == 2:
    sys.exit("segjax plan: no such thing")
if batch == 3:
    time.sleep(60)
place = pathlib.Path(options["output"])
place.mkdir(parents=True, exist_ok=True)
(place / "count").write_text(str(int((place / "count").read_text()) + 1 if (place / "count").exists() else 1))
(place / "plan.json").write_text(json.dumps({"batch_size": batch}))
"""


def test_failures_and_hangs_are_reported_and_a_plan_made_before_is_not_made_again(tmp_path):
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    chosen = [Candidate("cpu:1", batch, 1, 1) for batch in (1, 2, 3)]
    command = [sys.executable, "-S", str(script)]
    rows = sweep(chosen, command, tmp_path / "plans", seconds=3)
    assert [row["plan"] for row in rows] == [{"batch_size": 1}, None, None]
    assert rows[1]["error"] == "segjax plan: no such thing"
    assert "took longer" in rows[2]["error"]

    assert sweep(chosen[:1], command, tmp_path / "plans", seconds=3) == rows[:1]
    count = tmp_path / "plans" / chosen[0].folder / "count"
    assert count.read_text() == "1"
    sweep(chosen[:1], [*command, "--memory=1"], tmp_path / "plans", seconds=3)  # another command: planned anew
    assert count.read_text() == "2"
    json.dumps(rows)
