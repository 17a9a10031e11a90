from __future__ import annotations

import io
import json
import math

import numpy as np
import pytest

from segjax.core.errors import StorageError
from segjax.core.schema import IGNORE
from segjax.inference.evaluate import evaluate, extremes, of_engine, save_results
from segjax.inference.predictor import Predictor
from segjax.inference.provenance import provenance
from segjax.inference.samples import best_and_worst
from segjax.inference.table import print_scores
from segjax.tasks.semantic.task import SemanticTask
from segjax.tasks.semantic.view import VIEW
from tests.inference.pixel_network import INFO, PixelNet, images, variables

SIZES = [(12, 16), (10, 13), (12, 9), (5, 16), (12, 16)]


class ListSource:
    """Images of several sizes; the truth is what the network says, but for every third pixel of odd images."""

    def __init__(self, predictor: Predictor):
        self.samples = []
        for i, (height, width) in enumerate(SIZES):
            image = images(1, height, width, seed=i)[0]
            label = predictor(image).labels.copy()
            if i % 2:
                label.reshape(-1)[:: 5 - i] = 0
            label[0, :3] = IGNORE
            self.samples.append({"image": image, "label": label, "name": f"image{i}"})

    def __getitem__(self, index: int) -> dict:
        return self.samples[index]

    def batches(self, size: int = 2) -> list[dict]:
        found = []
        for start in range(0, len(self.samples), size):
            part = self.samples[start : start + size]
            batch = {
                "image": np.full((size, 12, 16, 3), 99, np.uint8),
                "label": np.full((size, 12, 16), IGNORE, np.uint8),
                "valid": np.arange(size) < len(part),
                "size": np.zeros((size, 2), np.int32),
                "name": [item["name"] for item in part] + [""] * (size - len(part)),
            }
            for i, item in enumerate(part):
                height, width = item["label"].shape
                batch["image"][i, :height, :width] = item["image"]
                batch["label"][i, :height, :width] = item["label"]
                batch["size"][i] = height, width
            found.append(batch)
        return found


def _matrix(pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    matrix = np.zeros((5, 5), np.int64)
    for truth, prediction in pairs:
        t, p = (np.minimum(array.astype(int), 4).ravel() for array in (truth, prediction))
        np.add.at(matrix, (t, p), 1)
    return matrix


def _miou(matrix: np.ndarray, void: str) -> float:
    hits = np.diagonal(matrix)[:4].astype(float)
    predicted = matrix[: 5 if void == "union" else 4, :4].sum(0)
    union = matrix[:4].sum(1) + predicted - hits
    return float(np.mean(hits[union > 0] / union[union > 0]))


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(PixelNet(), variables(), INFO, batch_size=2)


@pytest.fixture(scope="module")
def source(predictor: Predictor) -> ListSource:
    return ListSource(predictor)


@pytest.mark.parametrize("void", ["ignore", "union"])
def test_scores_equal_a_count_on_the_unpadded_images(predictor: Predictor, source: ListSource, void: str) -> None:
    task = SemanticTask(4, void=void, boundary=False, classes=INFO.classes)
    results = evaluate(of_engine(predictor), source.batches(), task, place=predictor.place)
    pairs = [(item["label"], predictor(item["image"]).labels) for item in source.samples]
    matrix = _matrix(pairs)
    np.testing.assert_array_equal(results["metrics"]["confusion"], matrix)
    assert results["metrics"]["miou"] == pytest.approx(_miou(matrix, void))
    assert results["images"] == len(SIZES)
    for record, pair, item in zip(results["per_image"], pairs, source.samples):
        assert record["name"] == item["name"]
        assert record["miou"] == pytest.approx(_miou(_matrix([pair]), void))


def test_per_image_or_not_the_sum_is_the_same(predictor: Predictor, source: ListSource) -> None:
    task = SemanticTask(4, boundary=True)
    told = []
    apart = evaluate(of_engine(predictor), source.batches(), task, place=predictor.place, on_batch=told.append)
    together = evaluate(of_engine(predictor), source.batches(), task, place=predictor.place, per_image=False)
    assert apart["metrics"]["confusion"] == together["metrics"]["confusion"]
    assert apart["metrics"]["boundary_f1"] == pytest.approx(together["metrics"]["boundary_f1"], rel=1e-6)
    assert "per_image" not in together
    assert told == [2, 4, 5]


def test_best_and_worst_images(predictor: Predictor, source: ListSource) -> None:
    task = SemanticTask(4, boundary=False)
    results = evaluate(of_engine(predictor), source.batches(), task, place=predictor.place)
    best, worst = best_and_worst(predictor, source, results["per_image"], 2, (12, 16))
    assert {sample.name for sample in worst} == {"image1", "image3"}
    assert worst[0].score <= worst[1].score < best[1].score <= best[0].score
    sample = worst[0]
    assert sample.truth.labels.shape == sample.prediction.labels.shape == sample.image.shape[:2]
    np.testing.assert_array_equal(sample.prediction.labels, predictor(sample.image).labels)


def test_the_report_shows_images_through_the_program_that_scored_them(source: ListSource) -> None:
    traces = []

    class Counting(PixelNet):
        def apply(self, weights, views, train):
            traces.append(views.shape)
            return super().apply(weights, views, train)

    counted = Predictor(Counting(), variables(), INFO, batch_size=2)
    results = evaluate(of_engine(counted), source.batches(), SemanticTask(4, boundary=False), place=counted.place)
    best_and_worst(counted, source, results["per_image"], 2, (12, 16))
    assert traces == [(2, 12, 16, 3)]


def test_extremes_leave_out_unknown_scores_and_overlap_nowhere() -> None:
    records = [{"miou": score} for score in (0.5, math.nan, 0.9, 0.1)]
    assert extremes(records, 1, "miou") == ([2], [3])
    assert extremes(records, 5, "miou") == ([2], [3])
    assert extremes(records[:1], 3, "miou") == ([0], [])
    assert extremes(records[1:2], 3, "miou") == ([], [])


def test_record_is_json_without_nan(tmp_path) -> None:
    path = save_results(tmp_path / "a.json", {"miou": math.nan, "list": (np.float32(1.5), np.int64(2)), **provenance()})
    record = json.loads(path.read_text())
    assert record["miou"] is None
    assert record["list"] == [1.5, 2]
    assert {"command", "commit", "versions", "device", "time"} <= set(record)
    assert {"segjax", "jax", "python"} <= set(record["versions"])
    with pytest.raises(StorageError):
        save_results(path / "below_a_file.json", {})


def test_table_shows_every_class_and_ends_with_miou(predictor: Predictor, source: ListSource) -> None:
    task = SemanticTask(4, classes=INFO.classes)
    metrics = evaluate(of_engine(predictor), source.batches(), task, per_image=False)["metrics"]
    stream = io.StringIO()
    print_scores(VIEW, metrics, "toy", stream)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "toy"
    assert [line.split()[0] for line in lines[2:6]] == list(INFO.classes)
    assert lines[-1].split() == ["mIoU", f"{metrics['miou']:.4f}"]
    table = VIEW.table(metrics)
    assert table.columns[-1] == "pixels"
    assert sum(row[-1] for row in table.rows) == pytest.approx(1)
