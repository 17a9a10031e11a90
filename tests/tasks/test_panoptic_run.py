"""The panoptic task between the pipeline, the train step, the engine and the report."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import optax
import pytest
from panoptic_scenes import INFO, sample

from segjax.core.config import from_dict, to_dict
from segjax.core.registry import create_model
from segjax.data.pipeline import eval_batches, train_batches
from segjax.inference.evaluate import evaluate, of_engine, renumbered
from segjax.inference.predictor import make_engine
from segjax.inference.samples import best_and_worst
from segjax.parallel.mesh import make_mesh
from segjax.report.page import write_report
from segjax.tasks import make_task
from segjax.training.state import init_state, init_variables
from segjax.training.step import make_train_step

CROP = (32, 48)
CONFIG = from_dict(
    {
        "task": "panoptic",
        "data": {"crop_size": CROP},
        "augment": {"scale": (0.8, 1.25)},
        "loss": {"sigma": 2, "small_area": 100},
        "eval": {"batch_size": 2},
    }
)


@dataclasses.dataclass(frozen=True)
class Scenes:
    """Scenes of 40x56; the first has no thing."""

    count: int
    largest: tuple[int, int] = (40, 56)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict:
        return sample(index, self.largest, least=10**6 if index == 0 else 1)


@pytest.fixture(scope="module")
def network():
    model = create_model("panopticdeeplab/test", INFO.num_classes)
    return model, init_variables(model, 0, (*CROP, 3))


def test_training_steps_of_pipeline_batches(network):
    model, variables = network
    task, tx = make_task(CONFIG, INFO), optax.sgd(0.01)
    fields = task.fields(INFO, task.window(CROP, Scenes(3).largest), True)
    batches = train_batches(Scenes(3), fields, batch_size=4, seed=0, collate=task.collate)
    traces = []

    def transform(key, batch):
        traces.append(None)
        return task.transform(INFO, CROP)(key, batch)

    step = jax.jit(make_train_step(model, task, tx, transform, schedule=lambda step: 0.01, accumulate=2))
    state = init_state(variables, tx, make_mesh(devices=jax.devices()[:1]), ema=False)
    seen = []
    for _ in range(3):
        state, metrics = step(state, next(batches))
        seen.append({key: float(value) for key, value in metrics.items()})
    batches.close()
    assert len(traces) == 1
    for record in seen:
        assert all(np.isfinite(value) for value in record.values()), record
        expected = record["loss/semantic"] + 200 * record["loss/center"] + 0.01 * record["loss/offset"]
        assert record["loss"] == pytest.approx(expected, rel=1e-5)


def test_evaluation_prediction_and_report(network, tmp_path):
    model, variables = network
    engine = make_engine(model, variables, INFO, CONFIG)
    source, task = Scenes(3), engine.task
    fields = task.fields(INFO, (48, 64), False)
    batches = list(eval_batches(source, fields, batch_size=2, collate=task.collate))
    results = evaluate(of_engine(engine), batches, task, place=engine.place)
    assert results["images"] == 3
    assert set(engine.view.overall) <= set(results["metrics"])
    assert [record["name"] for record in results["per_image"]] == ["scene_0", "scene_1", "scene_2"]
    assert all(0 <= record["pq"] <= 1 for record in results["per_image"])

    prediction = engine(sample(1, (40, 56))["image"])
    assert prediction.segment.shape == (40, 56)
    assert prediction.save(tmp_path / "one.png").with_suffix(".json").exists()

    best, worst = best_and_worst(engine, source, results["per_image"], 1, (48, 64))
    record = {"kind": "evaluation", "dataset": "scenes", "split": "val", "void": "ignore", "checkpoint": "here"}
    record |= {"step": 0, "parameters": 0, "viewing": engine.settings(), **results}
    page = write_report(
        tmp_path, view=engine.view, results=record, info=INFO, config=to_dict(CONFIG), best=best, worst=worst
    )
    text = page.read_text()
    for words in ("PQ of things", "in no matched segment", "cyclist"):
        assert words in text


def test_segments_go_by_the_numbers_of_the_data_sets_classes():
    def predict(placed, batch):
        return {"label": np.array([[[0, 1]]]), "segment_class": np.array([[1, 0, 2]]), "segment": np.array([[[2, 1]]])}

    found = renumbered(predict, (3, 0, 1))(None, None)
    assert found["label"].tolist() == [[[3, 0]]]
    assert found["segment_class"].tolist() == [[0, 3, 1]]
    assert found["segment"].tolist() == [[[2, 1]]]
