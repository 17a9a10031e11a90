"""The command line's fast answers: help, listings, and bad input that is found before jax is imported."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from segjax.cli import models
from segjax.cli.main import VERBS, main


def test_help_names_every_verb(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])
    assert caught.value.code == 0
    assert f"segjax {verb}" in capsys.readouterr().out


def test_models_lists_papers_and_variants(capsys):
    assert main(["models"]) == 0
    shown = capsys.readouterr().out
    assert "arXiv:1606.02147" in shown
    assert "resnet101" in shown
    assert re.search(r"davidtvs +35\d,\d{3} +\d\.\d\d +8 +360x640, 19 classes", shown)


def test_models_name_tells_layers_by_stride_and_what_it_is_held_to(capsys):
    assert main(["models", "unet/same", "--num-classes", "2"]) == 0
    shown = capsys.readouterr().out
    assert "31,037,698 at 2 classes, 3 channels" in shown
    assert "192.69 at 512x512, 2 classes" in shown
    assert re.search(r"16 +2 +14,155,776 +14\.50", shown)
    assert "milesial/Pytorch-UNet" in shown


def test_models_update_keeps_the_other_networks_figures(monkeypatch, tmp_path):
    figures = tmp_path / "figures.json"
    other = {"size": [1, 1], "classes": 1, "parameters": 1, "macs": 1, "output_stride": 1}
    figures.write_text(json.dumps({"unet/same": other, "gone/away": other}))
    kept = models.read_figures()
    monkeypatch.setattr(models, "FIGURES", figures)
    assert main(["models", "enet", "--update"]) == 0
    assert models.read_figures() == {
        "unet/same": other,
        **{name: figure for name, figure in kept.items() if name.startswith("enet/")},
    }


def test_the_page_of_networks_is_current():
    written = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    assert written == models.page(), f"docs/models.md is out of date: run `{models.WRITE_PAGE}`"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["trian"], "no verb 'trian'. Did you mean 'train'"),
        (["train", "--config=nowhere.py"], "no file 'nowhere.py'"),
        (["train", "--config=configs/quickstart.py", "--config.optim.learing_rate=1"], "Did you mean 'learning_rate'"),
        (["train", "--config=configs/quickstart.py", "--config.train.steps=many"], "config.train.steps: 'many'"),
        (["train", "--config=configs/quickstart.py", "--config.model.name=unnet"], "Did you mean 'unet'"),
        (["train", "--config=configs/quickstart.py", "--config.train.steps"], "--config.train.steps needs a value"),
        (["models", "unett"], "Did you mean 'unet'"),
        (["models", "--config.train.steps=1"], "`segjax models` reads no config"),
    ],
)
def test_bad_input_is_one_line(argv, words, capsys):
    assert main(argv) == 2
    shown = capsys.readouterr().err
    assert words in shown
    assert shown.count("\n") == 1


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        ["models"],
        ["train", "--config=configs/quickstart.py", "--config.trian.steps=1"],
        ["train", "--config=nowhere.py"],
        ["evaluate"],
        ["predict", "--checkpoint=nowhere", "--input=nowhere", "--output=out"],
    ],
)
def test_fast_answers_import_no_jax(argv):
    code = (
        "import sys; from segjax.cli.main import main; main(sys.argv[1:]);"
        "bad = {'jax', 'flax', 'tensorflow_datasets', 'grain', 'cv2'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code, *argv], check=True, capture_output=True)
