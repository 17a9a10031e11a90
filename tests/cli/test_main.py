"""The command line's fast answers: help, listings, and bad input that is found before jax is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

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


def test_models_name_counts_parameters(capsys):
    assert main(["models", "unet/original", "--num-classes", "2"]) == 0
    assert "31,031,810 at 2 classes, 3 channels" in capsys.readouterr().out


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
