from __future__ import annotations

import base64
import dataclasses
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segjax.core.config import Config, to_dict
from segjax.core.errors import StorageError
from segjax.core.schema import DatasetInfo
from segjax.report import write_report
from segjax.report.charts import heat_map, line_chart, thin, ticks
from segjax.tasks.semantic.task import SemanticTask
from segjax.tasks.semantic.view import VIEW, Prediction

INFO = DatasetInfo("toy", ("sky", "road <b>", "tree"), ((90, 150, 220), (90, 90, 90), (40, 140, 60)))
VOID_TAGS = {"meta", "img"}


@dataclasses.dataclass(frozen=True)
class Shown:
    name: str
    score: float
    image: np.ndarray
    truth: Prediction
    prediction: Prediction


class Page(HTMLParser):
    """Collects ids, pictures and text, and checks that tags close in order."""

    def __init__(self, text: str):
        super().__init__()
        self.ids, self.pictures, self.words, self.addresses, self.open = set(), [], [], [], []
        self.tags = set()
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list) -> None:
        attrs = dict(attrs)
        self.tags.add(tag)
        self.ids.add(attrs.get("id"))
        self.addresses += [attrs[key] for key in ("src", "href", "action", "data", "poster") if key in attrs]
        if tag == "img":
            self.pictures.append(attrs)
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def _results() -> dict:
    rng = np.random.default_rng(0)
    task = SemanticTask(3, classes=INFO.classes, boundary=False)
    matrix = rng.integers(0, 1000, (4, 4))
    matrix[2] = matrix[:, 2] = 0  # a class in neither truth nor prediction: its scores are NaN
    metrics = task.metric_result({"confusion": {"matrix": matrix}})
    origin = {"command": "segjax train --config=a.py", "commit": "abc123", "device": "1 x cpu", "time": "2026-11-21"}
    return {"metrics": metrics, "images": 7, "split": "test", "step": 40, "versions": {"jax": "0.10"}, **origin}


def _sample(name: str, height: int = 12, width: int = 16) -> Shown:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, (height, width)).astype(np.uint8)
    truth[0] = 255
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Shown(name, 0.5, image, Prediction(truth, INFO), Prediction(np.zeros((height, width), np.uint8), INFO))


def _log(workdir: Path) -> None:
    lines = [
        {
            "step": 10,
            "kind": "train",
            "loss": 2.0,
            "learning_rate": 1e-3,
            "images_per_second": 5.0,
            "step_seconds": 6.0,
        },
        {
            "step": 20,
            "kind": "train",
            "loss": None,
            "learning_rate": 5e-4,
            "images_per_second": 6.0,
            "step_seconds": 7.0,
        },
        {"step": 20, "kind": "eval", "miou": 0.25},
        {"step": 40, "kind": "eval", "miou": None},
    ]
    text = "\n".join(json.dumps(line) for line in lines) + '\n{"step": 50, "ki'  # cut off by a kill
    (workdir / "metrics.jsonl").write_text(text)


def _write(workdir: Path, **changes) -> str:
    arguments = {
        "view": VIEW,
        "results": _results(),
        "info": INFO,
        "config": to_dict(Config(name="a & b")),
        "best": [_sample("one")],
        "worst": [_sample("two", 900, 1300)],
    }
    path = write_report(workdir, **{**arguments, **changes})
    assert path == workdir / "report.html"
    return path.read_text()


def test_page_is_whole_and_holds_every_section(tmp_path) -> None:
    _log(tmp_path)
    page = Page(_write(tmp_path))
    assert {"scores", "run", "curves", "classes", "confusion", "samples", "config", "versions"} <= page.ids
    words = " ".join(page.words)
    for expected in ("a & b", "road <b>", "abc123", "segjax train --config=a.py", "jax 0.10", "2 min 10 s", "step 40"):
        assert expected in words, expected
    assert f"{_results()['metrics']['miou']:.4f}" in words
    assert "nan" not in words.lower().split()


def test_nothing_is_fetched_and_nothing_runs(tmp_path) -> None:
    text = _write(tmp_path)
    page = Page(text)
    assert all(address.startswith("data:") for address in page.addresses)
    assert not {"script", "link", "iframe", "object"} & page.tags
    without_data = re.sub(r"data:[a-z/]+;base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"https?://|url\(|@import", without_data)


def test_samples_are_embedded_and_kept_small(tmp_path) -> None:
    page = Page(_write(tmp_path))
    assert len(page.pictures) == 8
    for picture in page.pictures:
        data = base64.b64decode(picture["src"].partition(",")[2])
        with Image.open(io.BytesIO(data)) as image:
            assert image.size == (int(picture["width"]), int(picture["height"]))
            assert max(image.size) <= 650


def test_a_bare_evaluation_is_a_page_too(tmp_path) -> None:
    results = {key: _results()[key] for key in ("metrics", "images")}
    page = Page(_write(tmp_path, results=results, config=None, best=(), worst=()))
    assert "nothing recorded" in " ".join(page.words)
    assert "samples" not in page.ids


def test_unwritable_workdir_is_one_line(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not be written"):
        write_report(tmp_path / "file", view=VIEW, results=_results(), info=INFO)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.2, 0.73), (1e-5, 3e-3), (-2, 5), (7, 7), (0, 0), (1e6, 3e6)])
def test_ticks_span_the_values_in_round_steps(low: float, high: float) -> None:
    marks = ticks(low, high, 4)
    assert marks[0] <= low + 1e-12
    assert marks[-1] >= high - 1e-12
    assert 2 <= len(marks) <= 8
    step = marks[1] - marks[0]
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(mantissa - round_one) for round_one in (1, 2, 2.5, 5, 10)) < 1e-6


def test_line_chart_stays_inside_and_survives_gaps() -> None:
    chart = line_chart([(1, 3.0), (2, math.nan), (3, None), (4, -1.0)], label="x", form=str)
    points = re.search(r'points="([^"]+)"', chart).group(1).split()
    places = [tuple(map(float, point.split(","))) for point in points]
    assert len(places) == 2
    assert all(0 <= x <= 400 and 0 <= y <= 210 for x, y in places)
    assert places[0][1] < places[1][1]  # larger values stand higher
    assert "nothing recorded" in line_chart([(1, math.nan)], label="x", form=str)
    assert "polyline" in line_chart([(5, 2.0)], label="x", form=str)


def test_thinning_keeps_the_mean_and_the_end() -> None:
    points = [(float(i), float(i % 7)) for i in range(10_001)]
    few = thin(points, 400)
    assert len(few) <= 400
    assert few[-1] == points[-1]
    assert np.mean([y for _, y in few]) == pytest.approx(3, abs=0.1)
    assert thin(points[:10], 400) == points[:10]


def test_heat_map_has_a_cell_for_each_pair_and_tells_empty_rows() -> None:
    picture = heat_map([[0.75, 0.25, 0.0], [None, None, None]], ["a", "b"], ["a", "b", "void"], "x")
    assert picture.count("<title>") == 6
    assert "a seen as b: 25.0%" in picture
    assert picture.count("b is in no truth") == 3
