"""docs/scaling.md has the tables that benchmarks/sharding.py makes of its results."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_tables_are_those_of_the_results():
    spec = importlib.util.spec_from_file_location("sharding", ROOT / "benchmarks" / "sharding.py")
    sharding = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sharding)
    page = (ROOT / "docs" / "scaling.md").read_text().splitlines()
    for line in sharding.markdown(json.loads(sharding.RESULT.read_text())).splitlines():
        assert line in page, line


def test_reductions_do_not_grow_with_the_devices_nor_halos_with_the_height():
    growth = json.loads((ROOT / "benchmarks" / "results" / "sharding.json").read_text())["growth"]

    def moved(one: dict, kind: str) -> int:
        return sum(row["bytes"] for row in one["exchange"] if row["kind"] == kind)

    for one in growth["devices"]:
        assert one["parameter_bytes"] <= moved(one, "all-reduce") < 1.01 * one["parameter_bytes"]
    low, middle, high = (moved(one, "collective-permute") for one in growth["height"])
    assert max(low, middle, high) < 1.1 * min(low, middle, high)
    narrow, middle, wide = (moved(one, "collective-permute") for one in growth["width"])
    assert 1.8 < middle / narrow < 2.2
    assert 1.8 < wide / middle < 2.2
