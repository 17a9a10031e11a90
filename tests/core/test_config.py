from __future__ import annotations

import json

import pytest

from segjax.cli.config import keys
from segjax.core.config import Config, from_dict, load_config, to_dict
from segjax.core.errors import ConfigError
from segjax.core.registry import TASKS


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "c.py"
    path.write_text(
        "import ml_collections\n"
        "def get_config(arg='none'):\n"
        "    c = ml_collections.ConfigDict()\n"
        "    c.name = arg\n"
        "    c.train = dict(steps=10)\n"
        "    c.augment = dict(scale=(0.5, 2))\n"
        "    return c\n"
    )
    return path


def test_file_argument_and_overrides_complete_the_defaults(config_file):
    config = load_config(
        f"{config_file}:twin",
        {
            "train.steps": "20",
            "data.crop_size": "(64,96)",
            "model.options.depth": "3",
            "data.root": "a/b",
            "train.ema": "0.99",
        },
    )
    assert (config.name, config.train.steps, config.augment.scale) == ("twin", 20, (0.5, 2.0))
    assert config.data.crop_size == (64, 96)
    assert config.model.options == {"depth": 3}
    assert config.data.root == "a/b"
    assert config.train.ema == 0.99
    assert config.optim == Config().optim


def test_json_round_trip(config_file):
    config = load_config(str(config_file))
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(
    ("overrides", "culprit", "advice"),
    [
        ({"train.batchsize": "4"}, "config.train.batchsize", "Did you mean 'batch_size'"),
        ({"trian.steps": "4"}, "config.trian", "Did you mean 'train'"),
        ({"train": "4"}, "config.train is a group", "batch_size"),
        ({"train.steps.x": "4"}, "config.train.steps.x", "no keys below"),
        ({"train.steps": "many"}, "config.train.steps: 'many'", "a whole number or None"),
        ({"train.steps": "1.5"}, "config.train.steps: 1.5", "a whole number"),
        ({"train.steps": "0"}, "config.train.steps: 0", "below 1"),
        ({"data.crop_size": "7"}, "config.data.crop_size: 7", "a tuple of 2 ints"),
        ({"augment.flip": "1"}, "config.augment.flip: 1", "True or False"),
        ({"optim.name": "adamv"}, "config.optim.name: 'adamv'", "Did you mean 'adamw'"),
        ({"train.epochs": "2"}, "config.train.steps and config.train.epochs", "keep one"),
        ({"train.accumulate": "3"}, "config.train.batch_size: 8", "accumulate=3"),
        ({"augment.scale": "(2,1)"}, "config.augment.scale: (2.0, 1.0)", "range"),
        ({"schedule.name": "step"}, "config.schedule.boundaries", "at least one"),
        ({"loss.name": "lovasz_sofmax"}, "config.loss.name: 'lovasz_sofmax'", "Did you mean 'lovasz_softmax'"),
        ({"loss.class_weights": "autos"}, "config.loss.class_weights: 'autos'", "Did you mean 'auto'"),
        ({"eval.overlap": "1"}, "config.eval.overlap", "below 1"),
    ],
)
def test_bad_values_are_one_line_that_names_the_key(config_file, overrides, culprit, advice):
    with pytest.raises(ConfigError) as caught:
        load_config(str(config_file), overrides)
    message = str(caught.value)
    assert culprit in message
    assert advice in message
    assert "\n" not in message


def test_a_typo_in_the_file_is_caught(tmp_path):
    path = tmp_path / "c.py"
    path.write_text("def get_config():\n    return dict(optim=dict(learing_rate=1.0))\n")
    with pytest.raises(ConfigError, match=r"config\.optim\.learing_rate: no such key. Did you mean 'learning_rate'"):
        load_config(str(path))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def get_config(:\n", "SyntaxError"),
        ("x = 1\n", "get_config"),
        ("def get_config():\n    return 1 / 0\n", "ZeroDivision"),
    ],
)
def test_a_broken_file_is_named(tmp_path, text, words):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        load_config(str(path))
    assert "broken.py" in str(caught.value)


def test_a_missing_file_is_named():
    with pytest.raises(ConfigError, match=r"no file 'nowhere\.py'"):
        load_config("nowhere.py")


@pytest.mark.parametrize("task", TASKS)
def test_every_field_says_what_it_means(task):
    found = list(keys(task))
    assert len(found) > 50
    assert not [key.name for key in found if not key.doc]
