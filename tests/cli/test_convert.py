"""`segjax convert`: a weight file becomes a checkpoint that inference and `config.init` take."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import segjax
from segjax.cli.main import main
from segjax.core.config import Init
from segjax.core.schema import IGNORE, IMAGENET_MEAN, Resize
from segjax.training.pretrained import pretrained
from tests.cli.tiny_weights import FIELDS, OPTIONS, write_unet
from tests.data.tiny_sets import make_folder

START = ["--model", "unet/same", *OPTIONS]


@pytest.fixture
def file(tmp_path):
    return write_unet(tmp_path / "w.npz")


@pytest.fixture
def listing(tmp_path):
    (tmp_path / "names.txt").write_text("sky 1 2 3\nroad 4 5 6\ncar 7 8 9\nvoid 0 0 0\n")
    return str(tmp_path / "names.txt")


def convert(tmp_path, file, *more):
    return main(["convert", "--from", str(file), "--out", str(tmp_path / "out"), *START, *more])


def test_what_is_written_predicts_and_starts_a_run(tmp_path, file, listing, capsys):
    assert convert(tmp_path, file, "--classes", listing, "--input", "half", "--void-class", "void") == 0
    said = capsys.readouterr().out
    assert "parameters from" in said
    assert "rgb, mean 0,0,0, std 255,255,255, resized by 0.5, bicubic antialias" in said
    assert "'void' is void" in said

    out = tmp_path / "out"
    model = segjax.create_model("unet/same", 4, **FIELDS)
    variables = segjax.load_weights(model, file)
    predictor = segjax.Predictor.from_checkpoint(out)
    info = predictor.info
    assert (info.classes, info.palette[1], info.void_class) == (("sky", "road", "car", "void"), (4, 5, 6), 3)
    jax.tree.map(np.testing.assert_array_equal, dict(predictor.variables), variables)
    labels = predictor(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)).labels
    assert labels.shape == (8, 8)
    assert set(np.unique(labels)) <= {0, 1, 2, IGNORE}

    fresh = segjax.init_variables(model, 0, (16, 16, 3))
    jax.tree.map(np.testing.assert_array_equal, pretrained(Init(checkpoint=str(out)), fresh, info), variables)


def test_options_say_what_no_map_knows(tmp_path, file, listing):
    given = ["--mean", "1,2,3", "--std", "4", "--bgr", "--resize", "16x24,align_corners"]
    assert convert(tmp_path, file, "--classes", listing, *given) == 0
    info = segjax.Predictor.from_checkpoint(tmp_path / "out").info
    assert (info.mean, info.std, info.channel_order) == ((1.0, 2.0, 3.0), (4.0,) * 3, "bgr")
    assert (info.resize, info.void_class) == (Resize(size=(16, 24), align_corners=True), None)


def test_an_option_changes_one_thing_of_what_the_family_is_fed(tmp_path, file, listing):
    assert convert(tmp_path, file, "--classes", listing, "--input", "half", "--resize", "none", "--std", "1,2,3") == 0
    info = segjax.Predictor.from_checkpoint(tmp_path / "out").info
    assert (info.mean, info.std, info.resize) == ((0.0,) * 3, (1.0, 2.0, 3.0), None)


def test_numbered_classes_are_insisted_on(tmp_path, file):
    assert convert(tmp_path, file, "--classes", "numbered", "--num-classes", "4", "--input", "whole") == 0
    assert segjax.Predictor.from_checkpoint(tmp_path / "out").info.classes == tuple(f"class {i}" for i in range(4))


def test_a_data_sets_classes_and_pixels(tmp_path, file, monkeypatch, capsys):
    monkeypatch.setenv("SEGJAX_CACHE", str(tmp_path / "cache"))
    make_folder(tmp_path / "set", classes=3)
    data = ["--config.data.name=folder", f"--config.data.root={tmp_path / 'set'}", "--void-class", "3"]
    assert convert(tmp_path, file, *data) == 2
    assert "--input data takes those of the data set" in capsys.readouterr().err
    assert convert(tmp_path, file, *data, "--input", "data") == 0
    info = segjax.Predictor.from_checkpoint(tmp_path / "out").info
    assert info.classes == ("class 0", "class 1", "class 2", "void")
    assert (info.mean, info.void_class) == (IMAGENET_MEAN, 3)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--input", "half"], "--classes is needed"),
        (["--num-classes", "4", "--input", "half"], "--classes numbered goes without names"),
        (["--classes", "LIST"], "depends on the file (half, whole); say it by --input half|whole, --preset NAME, or"),
        (["--classes", "LIST", "--mean", "0", "--std", "255"], "depends on the file"),  # RGB or BGR?
        (["--classes", "LIST", "--input", "hlaf"], "Did you mean 'half'"),
        (["--classes", "LIST", "--input", "half", "--num-classes", "5"], "--num-classes: 5, but 4 classes are named"),
        (["--classes", "numbered", "--input", "half"], "--num-classes says how many"),
        (["--classes", "voc", "--input", "half"], "other shapes: outc.conv.weight"),
        (["--classes", "LIST", "--input", "half", "--void-class", "sea"], "'sea' is none of the 4 classes"),
        (["--classes", "LIST", "--input", "half", "--void-class", "5"], "4 adds an output"),
        (["--classes", "LIST", "--input", "half", "--mean", "1,2"], "2 numbers for 3 channels"),
        (["--classes", "LIST", "--input", "half", "--std", "1,0,1"], "above 0"),
        (["--classes", "LIST", "--input", "half", "--resize", "5y5"], "neither HEIGHTxWIDTH"),
        (["--classes", "LIST", "--input", "half", "--resize", "0.5,lanczos"], "'lanczos' is none of"),
        (["--classes", "LIST", "--input", "half", "--resize", "0"], "above 0"),
        (["--classes", "LIST", "--input", "data"], "name the data set by --config.data.name"),
        (["--classes", "LIST", "--input", "half", "--in-channels", "4", "--adapt-input"], "not of 4 channels"),
        (["--preset", "enet-camvid"], "enet-camvid is of enet, not of unet/same"),
        (["--preset", "enet-camvit"], "Did you mean 'enet-camvid'"),
        (["--classes", "absent.txt", "--input", "half"], "absent.txt"),
    ],
)
def test_errors_are_one_line(tmp_path, file, listing, capsys, more, says):
    assert convert(tmp_path, file, *(listing if text == "LIST" else text for text in more)) == 2
    printed = capsys.readouterr().err
    assert says in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_another_head_starts_fresh(tmp_path, file):
    more = ["--classes", "voc", "--input", "imagenet", "--reinit", "^logits/"]
    assert convert(tmp_path, file, *more) == 0
    assert segjax.Predictor.from_checkpoint(tmp_path / "out").info.mean == IMAGENET_MEAN


def test_a_prefix_is_taken_off_and_told(tmp_path, file, listing, capsys):
    with np.load(file) as tensors:
        np.savez(tmp_path / "p.npz", **{f"model.{name}": value for name, value in tensors.items()})
    assert convert(tmp_path, tmp_path / "p.npz", "--classes", listing, "--input", "half") == 0
    assert "names: 'model.' taken off every one" in capsys.readouterr().out
