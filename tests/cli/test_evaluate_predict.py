"""`segjax predict` and `segjax evaluate` on a checkpoint of an untrained network, and what they say to bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from segjax.cli.main import main
from segjax.data.class_list import read_class_list
from segjax.training.checkpoint import read_checkpoint

SCENES = {"count": 2, "eval_count": 3, "height": 48, "width": 64}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """jax's compilation cache, kept away from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGJAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory, cache) -> Path:
    """A workdir with one checkpoint."""
    from segjax.core.config import from_dict, to_dict
    from segjax.core.registry import create_model
    from segjax.data.dataset import open_dataset
    from segjax.parallel.mesh import make_mesh
    from segjax.training.checkpoint import Checkpointer
    from segjax.training.optim import make_optimizer
    from segjax.training.schedules import make_schedule
    from segjax.training.state import init_state, init_variables

    record = {
        "model": {"name": "unet/test"},
        "data": {"name": "scenes", "options": SCENES, "crop_size": [48, 64]},
        "eval": {"batch_size": 2, "split": "val"},
    }
    config = from_dict(record)
    info = open_dataset(config.data).info
    model = create_model(config.model.name, num_classes=info.num_classes)
    weights = init_variables(model, 0, (48, 64, 3))
    schedule = make_schedule(config.schedule, 1e-3, 10)
    tx = make_optimizer(config.optim, schedule, weights["params"])
    workdir = tmp_path_factory.mktemp("run")
    checkpointer = Checkpointer(workdir, config=to_dict(config), info=info, best="miou", resume=False)
    checkpointer.save(1, init_state(weights, tx, make_mesh(), ema=False), iterator={}, metrics={"miou": 0.1})
    checkpointer.close()
    return workdir


@pytest.fixture(scope="module")
def photos(tmp_path_factory, run: Path) -> Path:
    """The split's images as files."""
    from segjax.core.config import from_dict
    from segjax.data.dataset import open_dataset

    source = open_dataset(from_dict({"data": {"name": "scenes", "options": SCENES}}).data).split("val")
    folder = tmp_path_factory.mktemp("photos")
    for i in range(len(source)):
        Image.fromarray(source[i]["image"]).save(folder / f"{source[i]['name']}.png")
    return folder


@pytest.mark.parametrize("seen", [[], ["--crf", "method=exact,theta_beta=(9,9,9),w_bilateral=4,iterations=2"]])
def test_written_predictions_score_exactly_as_the_checkpoint(run: Path, photos: Path, tmp_path, capsys, seen) -> None:
    out = tmp_path / "labels"
    assert main(["predict", f"--checkpoint={run}", f"--input={photos}", f"--output={out}", "--overlay", *seen]) == 0
    assert "3 images labelled" in capsys.readouterr().out
    assert len(list(out.glob("*.png"))) == len(list((out / "overlays").glob("*.png"))) == 3
    direct, written = tmp_path / "direct.json", tmp_path / "written.json"
    assert main(["evaluate", f"--checkpoint={run}", f"--output={direct}", *seen]) == 0
    assert main(["evaluate", f"--checkpoint={run}", f"--predictions={out}", f"--output={written}"]) == 0
    direct, written = json.loads(direct.read_text()), json.loads(written.read_text())
    assert direct["metrics"] == written["metrics"]
    assert direct["per_image"] == written["per_image"]
    assert direct["images"] == 3
    kept = direct["viewing"]["crf"]
    assert kept is None if not seen else (kept["theta_beta"], kept["theta_gamma"]) == ([9.0, 9.0, 9.0], 3.0)
    assert np.sum(direct["metrics"]["confusion"]) == 3 * 48 * 64
    last = capsys.readouterr().out.splitlines()[-1].split()
    assert last == ["mIoU", f"{direct['metrics']['miou']:.4f}"]


def test_broken_image_is_skipped_and_the_status_says_so(run: Path, photos: Path, tmp_path, capsys) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    first = sorted(photos.iterdir())[0]
    (folder / "good.png").write_bytes(first.read_bytes())
    (folder / "cut.png").write_bytes(first.read_bytes()[:500])
    arguments = ["predict", f"--checkpoint={run}", f"--input={folder}", f"--output={tmp_path / 'out'}"]
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert "1 images labelled" in said.out
    assert "1 skipped" in said.out
    assert said.err.count("\n") == 1
    assert "cut.png" in said.err
    (folder / "good.png").unlink()
    assert main(arguments) == 2
    assert "none of 1 images could be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["predict", "--checkpoint=absent", "--input={photos}", "--output={tmp}/o"],
            "--checkpoint: no folder 'absent'",
        ),
        (["predict", "--checkpoint={tmp}", "--input={photos}", "--output={tmp}/o"], "no checkpoint"),
        (["predict", "--checkpoint={run}", "--input=absent", "--output={tmp}/o"], "no file or folder 'absent'"),
        (["predict", "--checkpoint={run}", "--input={tmp}", "--output={tmp}/o"], "no images in"),
        (["predict", "--checkpoint={run}", "--input={photos}", "--output={photos}"], "would be overwritten"),
        (["predict", "--checkpoint={run}", "--input={photos}", "--output={tmp}", "--alpha=2"], "--alpha"),
        (["predict", "--checkpoint={run}", "--input={photos}", "--output={tmp}", "--window=5"], "--window"),
        (["predict", "--checkpoint={run}", "--input={photos}", "--output={tmp}", "--scales=a"], "--scales"),
        (["predict", "--checkpoint={run}", "--input={photos}", "--output={tmp}", "--overlap=1.5"], "eval.overlap"),
        (["predict", "--checkpoint={run}", "--input={photos}", "--output={tmp}", "--crf=theta_bta=5"], "'theta_beta'"),
        (["predict", "--checkpoint={run}", "--input={photos}", "--output={tmp}", "--crf=5"], "'5' is not KEY=VALUE"),
        (["predict", "--checkpoint={run}", "--input={photos}", "--output={tmp}", "--crf=theta_beta=0"], "above 0"),
        (["predict", "--checkpoint={run}", "--input={photos}", "--output={tmp}/o", "--crf=capacity=9"], "overflowed"),
        (["evaluate", "--checkpoint={run}", "--crf=theta_beta=(1,2)"], "2 numbers for images of 3 channels"),
        (["evaluate", "--checkpoint={run}", "--config.eval.crf.metod=grid"], "Did you mean 'method'"),
        (["evaluate"], "--checkpoint or --predictions is needed"),
        (["evaluate", "--checkpoint={run}", "--config.model.name=unet"], "the checkpoint fixes it"),
        (["evaluate", "--checkpoint={run}", "--config.eval.viod=drop"], "Did you mean 'void'"),
        (["evaluate", "--checkpoint={run}", "--void=some"], "config.eval.void"),
        (["evaluate", "--checkpoint={run}", "--split=tset"], "split 'tset'"),
        (["evaluate", "--checkpoint={run}", "--predictions={tmp}/absent"], "no folder"),
        (["evaluate", "--checkpoint={run}", "--predictions={tmp}"], "no such file"),
        (
            ["evaluate", "--checkpoint={run}", "--config.data.options={{'style': 'cells', 'eval_count': 2}}"],
            "num_classes: the data set",
        ),
    ],
)
def test_bad_input_is_one_line(run: Path, photos: Path, tmp_path, capsys, arguments: list[str], words: str) -> None:
    before = sorted(photos.iterdir())
    arguments = [text.format(run=run, photos=photos, tmp=tmp_path) for text in arguments]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert words in said
    assert sorted(photos.iterdir()) == before
    assert not list(tmp_path.iterdir())


def test_two_images_of_one_name_are_refused(run: Path, photos: Path, tmp_path, capsys) -> None:
    first = sorted(photos.iterdir())[0]
    (tmp_path / "a.png").write_bytes(first.read_bytes())
    Image.open(first).save(tmp_path / "a.jpg")
    assert main(["predict", f"--checkpoint={run}", f"--input={tmp_path}", f"--output={tmp_path / 'out'}"]) == 2
    assert "a.png: a.jpg has the same stem" in capsys.readouterr().err


def test_every_kind_of_file_is_labelled_like_the_png(run: Path, photos: Path, tmp_path, capsys) -> None:
    with Image.open(sorted(photos.iterdir())[0]) as picture:
        array = np.asarray(picture)
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    alpha = Image.fromarray(array)
    alpha.putalpha(128)
    lossless = {"png": {}, "bmp": {}, "webp": {"lossless": True}, "tif": {"big_tiff": True}}
    for suffix, options in lossless.items():
        Image.fromarray(array).save(folder / f"{suffix}.{suffix}", **options)
    alpha.save(folder / "alpha.png")
    np.save(folder / "array.npy", array)
    Image.fromarray(array[..., 0]).save(folder / "grey.png")
    np.save(folder / "threefold.npy", np.repeat(array[..., :1], 3, -1))
    assert main(["predict", f"--checkpoint={run}", f"--input={folder}", f"--output={out}"]) == 0
    labels = {path.stem: np.asarray(Image.open(path)) for path in out.glob("*.png")}
    for name in (*lossless, "alpha", "array"):
        np.testing.assert_array_equal(labels[name], labels["png"])
    np.testing.assert_array_equal(labels["grey"], labels["threefold"])
    assert not np.array_equal(labels["grey"], labels["png"])
    # The list of classes is what a data set of folders has, and is not lost to another checkpoint's.
    names, colours = read_class_list(out / "classes.txt")
    info = read_checkpoint(run, "best").info
    assert (names, colours) == (info.classes, info.palette)
    (out / "classes.txt").write_text("a 1 2 3\nb 3 2 1\n")
    assert main(["predict", f"--checkpoint={run}", f"--input={folder}", f"--output={out}"]) == 2
    assert "classes.txt lists other classes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [
        ("a.gif", b"GIF89a", 1),
        ("scan.HEIC", b"....ftypheic", 1),
        ("b.jp2", b"x", 1),
        ("unnamed", "png", 1),  # a picture by its first bytes
        ("world.xyz", b"no picture", 0),
        ("inner/c.png", "png", 0),
        ("photo.tfw", b"1.0", None),  # notes beside pictures, without a word
        (".hidden.gif", b"GIF89a", None),
    ],
)
def test_what_is_not_read_is_named(run, photos: Path, tmp_path, capsys, name: str, content, status: int | None) -> None:
    photo = sorted(photos.iterdir())[0].read_bytes()
    folder = tmp_path / "in"
    (folder / name).parent.mkdir(parents=True)
    (folder / "photo.png").write_bytes(photo)
    (folder / name).write_bytes(photo if content == "png" else content)
    assert main(["predict", f"--checkpoint={run}", f"--input={folder}", f"--output={tmp_path / 'out'}"]) == (
        status or 0
    )
    said = capsys.readouterr()
    assert said.out.splitlines()[-1].endswith(", 1 not read") == (status is not None)
    assert (f"not read {folder / name.split('/')[0]}: " in said.err) == (status is not None)
    (folder / "photo.png").unlink()
    assert main(["predict", f"--checkpoint={run}", f"--input={folder}", f"--output={tmp_path / 'out'}"]) == 2
    assert f"no images in '{folder}', which holds " in capsys.readouterr().err


def test_a_limit_is_told_as_a_limit(run: Path, photos: Path, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("SEGJAX_MAX_PIXELS", "3000")
    first = sorted(photos.iterdir())[0]
    assert main(["predict", f"--checkpoint={run}", f"--input={first}", f"--output={tmp_path}"]) == 2
    said = capsys.readouterr().err
    assert "48x64 is 3,072 pixels, the limit is 3,000; raise it with SEGJAX_MAX_PIXELS=N" in said
    assert "damaged" not in said


def test_a_large_tiff_is_labelled_in_bands_where_it_lies(
    run: Path, photos: Path, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr("segjax.inference.folder.LARGE", 3000)
    monkeypatch.setenv("SEGJAX_MAX_PIXELS", "4000")
    with Image.open(sorted(photos.iterdir())[0]) as picture:
        array = np.tile(np.asarray(picture), (1, 2, 1))
    place = [(33550, 12, 3, (0.5, 0.5, 0.0), True), (33922, 12, 6, (0.0, 0.0, 0.0, 7.0, 8.0, 0.0), True)]
    source, out = tmp_path / "a.tif", tmp_path / "out"
    tifffile.imwrite(source, array, photometric="rgb", extratags=place, metadata=None)
    arguments = ["predict", f"--checkpoint={run}", f"--input={source}", f"--output={out}"]
    assert main(arguments) == 2
    assert "the limit is 4,000" in capsys.readouterr().err
    assert main([*arguments, "--window", "32", "32"]) == 0
    with tifffile.TiffFile(out / "a.tif") as file:
        labels = file.pages[0].asarray()
        assert file.pages[0].tags["ModelTiepointTag"].value == (0.0, 0.0, 0.0, 7.0, 8.0, 0.0)
    for choice, suffix in [("png", "png"), ("tif", "tif")]:
        assert main([*arguments[:-1], f"--output={tmp_path / choice}", "--window=32x32", f"--format={choice}"]) == 0
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / choice / f"a.{suffix}")), labels)
    monkeypatch.setenv("SEGJAX_MAX_PIXELS", "8000")
    monkeypatch.setattr("segjax.inference.folder.LARGE", 8000)
    assert main([*arguments[:-1], f"--output={tmp_path / 'whole'}", "--window", "32x32", "--format=tif"]) == 0
    with tifffile.TiffFile(tmp_path / "whole" / "a.tif") as file:
        np.testing.assert_array_equal(file.pages[0].asarray(), labels)
        assert file.pages[0].tags["ModelPixelScaleTag"].value == (0.5, 0.5, 0.0)
    for option in ("--overlay", "--probabilities"):
        monkeypatch.setattr("segjax.inference.folder.LARGE", 3000)
        assert main([*arguments, "--window", "32", "32", option]) == 2
        assert f"a.tif: {option} needs the whole" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["png", "tif", "npy"])
def test_predictions_of_any_label_file_are_scored(run, photos: Path, tmp_path, capsys, suffix: str) -> None:
    labels, out = tmp_path / "labels", tmp_path / "scores.json"
    assert main(["predict", f"--checkpoint={run}", f"--input={photos}", f"--output={labels}", "--format=tif"]) == 0
    for path in labels.glob("*.tif"):
        ids = np.asarray(Image.open(path))
        if suffix == "npy":
            np.save(path.with_suffix(".npy"), ids.astype(np.int64))
        elif suffix == "png":
            Image.fromarray(ids).save(path.with_suffix(".png"))
        if suffix != "tif":
            path.unlink()
    arguments = ["evaluate", f"--checkpoint={run}", f"--predictions={labels}", f"--output={out}"]
    assert main(arguments) == 0
    direct = tmp_path / "direct.json"
    assert main(["evaluate", f"--checkpoint={run}", f"--output={direct}"]) == 0
    assert json.loads(out.read_text())["metrics"] == json.loads(direct.read_text())["metrics"]
    first = sorted(photos.iterdir())[0].stem
    (labels / f"{first}.{'png' if suffix == 'npy' else 'npy'}").write_bytes(b"x")
    assert main(arguments) == 2
    assert "lies beside it; keep the one that counts" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["64", "64", "64"], ["64"], ["wide"], ["64x"]])
def test_a_window_is_two_numbers(run: Path, photos: Path, tmp_path, capsys, words: list[str]) -> None:
    arguments = ["predict", f"--checkpoint={run}", f"--input={photos}", f"--output={tmp_path}", "--window", *words]
    assert main(arguments) == 2
    assert f"--window: '{' '.join(words)}' is not HEIGHTxWIDTH" in capsys.readouterr().err


def test_python_example(run: Path, photos: Path, tmp_path) -> None:
    from segjax import Predictor

    predictor = Predictor.from_checkpoint(run)
    prediction = predictor(sorted(photos.iterdir())[0], probabilities=True)
    assert prediction.labels.shape == (48, 64)
    assert prediction.entropy.shape == (48, 64)
    assert prediction.save(tmp_path / "labels.png").is_file()
    assert predictor.step == 1
    assert predictor.batch_size == 2
