from __future__ import annotations

from pathlib import Path

import pytest

from segjax.core.errors import ConfigError
from segjax.sweep.variants import read_variants

CONFIG = """
from ml_collections import ConfigDict

def get_config(arg=""):
    config = ConfigDict()
    config.name = "base"
    config.optim = dict(learning_rate=0.5)
    return config

"""


def _read(tmp_path: Path, body: str, texts=None):
    path = tmp_path / "ablation.py"
    path.write_text(CONFIG + body)
    return read_variants(str(path), texts or {})


def test_variants_are_checked_configs_with_names(tmp_path: Path) -> None:
    body = """
def sweep(config):
    for factor in (1, 0.1):
        for seed in (0, 3):
            yield {"optim.learning_rate": factor * config.optim.learning_rate, "seed": seed}
    yield "wide", {"model.options.features": (8, 16), "data.crop_size": (64, 96)}
"""
    variants = _read(tmp_path, body, {"train.steps": "7"})
    names = [variant.name for variant in variants]
    assert names[:2] == ["learning_rate=0.5,seed=0", "learning_rate=0.5,seed=3"]
    assert names[3:] == ["learning_rate=0.05,seed=3", "wide"]
    assert [variant.config.optim.learning_rate for variant in variants] == [0.5, 0.5, 0.05, 0.05, 0.5]
    assert [variant.config.seed for variant in variants] == [0, 3, 0, 3, 0]
    assert variants[4].config.data.crop_size == (64, 96)
    assert {variant.config.train.steps for variant in variants} == {7}
    assert variants[0].config.name == "base-learning_rate=0.5,seed=0"
    assert [variant.setting for variant in variants[:3]] == ["learning_rate=0.5"] * 2 + ["learning_rate=0.05"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", "has no sweep(config)"),
        ("def sweep(config): return []", "at least one variant"),
        ("def sweep(config): return {'seed': 1}", "at least one variant"),
        ("def sweep(config): yield 'a', {}, 3", "variant 0"),
        ("def sweep(config): yield {'optim.learning_rat': 1}", "Did you mean 'learning_rate'"),
        ("def sweep(config): yield {'optim.learning_rate': 'x'}", "config.optim.learning_rate: 'x' is not a number"),
        ("def sweep(config): yield {'optim': {}}", "config.optim is a group"),
        ("def sweep(config):\n    yield {'seed': 1}\n    yield {'seed': 1.0}", "same run"),
        ("def sweep(config):\n    yield 'a', {'seed': 1}\n    yield 'b', {'seed': 1}", "'a' and 'b' are the same run"),
        ("def sweep(config):\n    yield 'a', {'seed': 1}\n    yield 'a', {'seed': 2}", "two variants are called 'a'"),
        ("def sweep(config): yield '../a', {}", "a name is a folder"),
        ("def sweep(config): raise ValueError('theirs')", "ValueError: theirs"),
    ],
)
def test_bad_sweeps_are_named(body: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        _read(tmp_path, body)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
