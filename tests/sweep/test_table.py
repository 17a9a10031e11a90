from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from segjax.core.config import from_dict
from segjax.report.comparison import write_comparison
from segjax.sweep.queue import Queue
from segjax.sweep.table import collect, print_table, write_table
from segjax.sweep.variants import Variant
from segjax.tasks.semantic.view import VIEW

SCORES = {(0.1, 0): 0.5, (0.1, 1): 0.6, (0.1, 2): 0.55, (0.2, 0): 0.7}


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    """Two rates with three seeds each; of the second one run is done, one has failed, one is open."""
    variants = [
        Variant(
            f"learning_rate={rate},seed={seed}",
            {"optim.learning_rate": rate, "seed": seed},
            from_dict({"seed": seed, "optim": {"learning_rate": rate}}),
        )
        for rate in (0.1, 0.2)
        for seed in range(3)
    ]
    queue = Queue(tmp_path, variants)
    for variant in variants:
        key = (variant.config.optim.learning_rate, variant.config.seed)
        workdir = queue.workdir(variant)
        if key in SCORES:
            workdir.mkdir(parents=True)
            metrics = {
                "miou": SCORES[key],
                "mean_dice": None,
                "per_class_iou": [SCORES[key], None],
                "classes": ["a", "b"],
            }
            results = {"step": 9, "split": "test", "metrics": {**metrics, "confusion": [[1]]}}
            (workdir / "results.json").write_text(json.dumps(results))
            curve = [{"step": step, "kind": "eval", "miou": SCORES[key] * step / 9} for step in (3, 9)]
            (workdir / "metrics.jsonl").write_text("\n".join(map(json.dumps, curve)) + '\n{"step": 1')
        elif key == (0.2, 1):
            queue.fail(variant, "the loss became non-finite at step 3")
    return queue


def test_mean_and_deviation_over_seeds(queue: Queue) -> None:
    record = collect(queue)
    best, other = record["rows"]
    assert (best["label"], best["done"], best["overrides"]) == ("learning_rate=0.2", 1, {"optim.learning_rate": 0.2})
    assert best["metrics"]["miou"] == {"mean": 0.7, "deviation": None}
    assert other["seeds"] == [0, 1, 2]
    assert other["metrics"]["miou"]["mean"] == pytest.approx(np.mean([0.5, 0.6, 0.55]))
    assert other["metrics"]["miou"]["deviation"] == pytest.approx(np.std([0.5, 0.6, 0.55], ddof=1))
    assert [one["status"] for one in record["variants"]] == ["done"] * 4 + ["failed", "open"]


def test_files_and_text(queue: Queue, capsys) -> None:
    record = collect(queue)
    write_table(queue.folder, record)
    assert json.loads((queue.folder / "table.json").read_text()) == record
    rows = list(csv.DictReader((queue.folder / "table.csv").open()))
    assert rows[0] == {
        "setting": "learning_rate=0.2",
        "optim.learning_rate": "0.2",
        "runs": "1",
        "miou mean": "0.7",
        "miou deviation": "",
    }
    print_table(record, {"miou": "mIoU", "fwiou": "fw"})
    lines = capsys.readouterr().out.splitlines()[-3:]
    assert lines[0].split() == ["setting", "runs", "mIoU"]
    assert lines[1].split() == ["learning_rate=0.2", "1/3", "0.7000"]
    assert lines[2].split() == ["learning_rate=0.1", "3", "0.5500", "±", "0.0500"]


def test_page_compares(queue: Queue) -> None:
    page = write_comparison(queue.folder, VIEW, collect(queue), "rates").read_text()
    assert "0.5500 ± 0.0500" in page
    assert page.count('<circle class="dot"') >= len(SCORES)
    assert 'href="runs/learning_rate=0.1,seed=0/report.html"' in page
    assert "the loss became non-finite at step 3" in page
    assert "6 variants: 4 done, 1 failed, 1 open" in page
    assert "http" not in page.replace("http-equiv", "")


def test_nothing_done_yet(tmp_path: Path) -> None:
    queue = Queue(tmp_path, [Variant("a", {}, from_dict({}))])
    record = collect(queue)
    assert record["rows"][0]["metrics"] == {}
    write_table(tmp_path, record)
    assert "1 open" in write_comparison(tmp_path, VIEW, record, "x").read_text()
