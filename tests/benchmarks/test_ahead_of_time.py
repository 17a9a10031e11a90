"""What `benchmarks/ahead_of_time.py` keeps of a plan is what its table shows."""

from __future__ import annotations

import json
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_page_shows_what_the_file_says(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from ahead_of_time import arguments, kept, markdown

    plan = json.loads((BENCHMARKS / "results" / "plan_pspnet-resnet101_v5p-4x4x4.json").read_text())
    row = markdown({"pspnet/resnet101-mmseg": kept(plan)}).splitlines()[-1]
    assert row == "| `pspnet/resnet101-mmseg` | 8 | 25.33 | 156.4 | 55 | 57 | 57 to 149 | 37% to 97% | 17.5 |"
    published = json.loads((BENCHMARKS / "results" / "ahead_of_time_v5e.json").read_text())
    page = (BENCHMARKS.parent / "docs" / "performance.md").read_text(encoding="utf-8")
    assert markdown(published) in page
    assert "--config.train.batch_size=32" in arguments("enet", "v5e:2x2", 8)
