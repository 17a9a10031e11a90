"""`segjax benchmark` in every mode on a folder of images: what it prints and keeps; and its one-line errors."""

from __future__ import annotations

import json

import pytest

from segjax.cli.main import main
from tests.data.tiny_sets import make_folder

CONFIG = """
def get_config():
    return dict(
        name="tiny",
        model=dict(name="unet/test"),
        data=dict(name="folder", crop_size=(16, 16), threads=1),
        optim=dict(name="sgd"),
        train=dict(steps=2, batch_size=2),
        eval=dict(batch_size=2, size=(24, 32)),
    )
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    (folder / "tiny.py").write_text(CONFIG)
    return folder, make_folder(folder / "photos", size=(20, 24))


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGJAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def run(place, mode: str, *flags: str) -> tuple[int, dict]:
    folder, photos = place
    output = folder / f"{mode}.json"
    command = [
        "benchmark",
        mode,
        f"--config={folder / 'tiny.py'}",
        f"--config.data.root={photos}",
        f"--output={output}",
    ]
    status = main([*command, *flags])
    return status, json.loads(output.read_text()) if output.exists() else {}


def test_the_step_alone_and_behind_the_pipeline(place, capsys):
    status, record = run(place, "train", "--steps=3", "--rounds=2")
    assert status == 0
    assert record["step"]["rounds"] == 2
    assert record["images_per_second"] == pytest.approx(2 / record["step"]["median"])
    assert record["floor_seconds"] == pytest.approx(
        max(record["flops"] / record["peak_flops"], record["bytes"] / record["bandwidth"])
    )
    assert record["floor_share"] == pytest.approx(record["floor_seconds"] / record["step"]["median"])
    assert record["pipeline"]["steps"] == 3
    assert 0 <= record["pipeline"]["data_wait"] <= 1
    assert {"device", "versions", "commit", "command"} <= record.keys()
    printed = capsys.readouterr().out
    assert "train: unet/test, 2 images of 16x16, float32" in printed
    assert "behind the input pipeline" in printed


def test_inference(place, capsys):
    status, record = run(place, "infer", "--rounds=2")
    assert status == 0
    assert record["image_size"] == [24, 32]
    assert record["flops"] > 0
    assert "images/s" in capsys.readouterr().out


def test_the_pipeline_alone(place):
    status, record = run(place, "input", "--steps=4")
    assert status == 0
    assert record["images"] == 8
    assert record["cpu_seconds_per_image"] > 0
    # uint8 pixels and labels, two int32 extents, one bool.
    assert record["bytes_per_image"] == 16 * 16 * 4 + 2 * 4 + 1


def test_compilation_cold_and_cached(place, capsys):
    import jax

    status, record = run(place, "compile")
    assert status == 0
    assert jax.config.jax_compilation_cache_dir.endswith("xla")  # the user's again, not the empty one
    assert len(record["compile"]) == 1
    assert all(one[name]["compile"] > 0 for one in record["compile"] for name in ("cold", "cached"))
    assert "cached" in capsys.readouterr().out


def test_memory_by_kind_adds_up_and_needs_no_data_set(place):
    status, record = run(place, "memory", "--classes=3", "--config.data.root=nowhere", "--config.train.ema=0.9")
    assert status == 0
    parts = record["parts"]
    assert sum(parts.values()) == record["needed"]
    # SGD: one momentum a parameter, the schedule's counter and the step.
    assert parts["parameters"] == parts["average"] == parts["optimiser_state"] - 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["input", "--classes=3"], "--classes: the input pipeline needs the data set"),
        (["train", "--rounds=0"], "--rounds=0: at least 1"),
        (["train", "--config.model.name=unett"], "unett"),
        (["infer", "--classes=3", "--config.eval.size=None"], "--image-size: give it, or config.eval.size"),
        (["train", "--config.data.crop_size=(15,16)"], "15x16 is not a multiple"),
    ],
)
def test_bad_input_is_one_line(place, capsys, arguments, message):
    status, _ = run(place, *arguments)
    assert status == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
