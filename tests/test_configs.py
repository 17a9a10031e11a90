"""Every shipped config loads, names a network that fits its crop, and trains: a config nobody loads is dead."""

from __future__ import annotations

import argparse
import ast
import dataclasses
from pathlib import Path

import pytest

from segjax.core.config import load_config
from segjax.core.config_file import config_function
from segjax.core.registry import create_model, resolve

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "configs").rglob("*.py"))


def _specs() -> list[str]:
    """Each file, and each file with each argument that it compares `arg` with."""
    specs = []
    for path in FILES:
        relative = path.relative_to(ROOT).as_posix()
        compared = {
            node.comparators[0].value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Compare) and isinstance(node.left, ast.Name) and node.left.id == "arg"
        }
        specs += [relative, *(f"{relative}:{arg}" for arg in sorted(compared))]
    return specs


@pytest.mark.parametrize("spec", _specs())
def test_config_loads_and_fits_its_network(spec):
    config = load_config(f"{ROOT}/{spec}", adapting=True)
    chosen_later = config_function(f"{ROOT}/{spec.partition(':')[0]}", "adapt") is not None
    assert chosen_later or (config.train.steps is None) != (config.train.epochs is None)
    model = create_model(config.model.name, num_classes=11, **config.model.options)
    assert all(side % model.stride == 0 for side in config.data.crop_size)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_header_gives_the_command(path):
    relative = path.relative_to(ROOT).as_posix()
    assert f"segjax train --config={relative}" in (ast.get_docstring(ast.parse(path.read_text())) or "")


def _recipe(path: Path) -> tuple:
    """What of a config decides which code a step runs; numbers such as rates and sizes do not."""
    config = load_config(str(path), adapting=True)
    loss, optim, train = config.loss, config.optim, config.train
    special = path.stem if config.model.options or config.init.into else ""
    return (
        special,
        (loss.name, repr(loss.options), bool(loss.label_smoothing), str(loss.class_weights)),
        (optim.name, optim.nesterov, optim.clip_norm is None, tuple(optim.multipliers)),
        (config.schedule.name, config.schedule.warmup_steps > 0),
        (train.accumulate, train.ema is None, train.dtype, train.remat),
        (config.eval.window is None, config.eval.flip, len(config.eval.scales)),
    )


# Each architecture's own step is compiled by the contract suite; here one config of each recipe.
SEMANTIC = [path for path in FILES if load_config(str(path), adapting=True).task == "semantic"]
RECIPES = list({_recipe(path): path for path in reversed(SEMANTIC)}.values())


# An architecture's recipe for another data set than CamVid runs with the slow tests.
AGAIN = [path for path in RECIPES if path.parent.name not in ("camvid", "configs")]
AGAIN = [path for path in AGAIN if any(other.stem == path.stem for other in RECIPES if other not in AGAIN)]
MINIATURES = [
    pytest.param(path, id=f"{path.parent.name}-{path.stem}", marks=[pytest.mark.slow] if path in AGAIN else [])
    for path in RECIPES
]


@pytest.mark.parametrize("path", MINIATURES)
def test_config_takes_a_step_in_miniature(path):
    """The step that `segjax train` would take, with the architecture's tiny variant on a small batch of noise."""
    import jax
    import numpy as np

    from segjax.benchmarking.train import Subject
    from segjax.cli.assembly import build
    from segjax.cli.known_data import known_data

    name = f"{resolve(load_config(str(path), adapting=True).model.name)[0].name}/test"
    side = max(32, 2 * create_model(name, num_classes=2).stride)
    changes = {
        "model.name": name,
        "model.options": "{}",
        "data.crop_size": f"({side},{side})",
        "train.batch_size": "2",
    }
    config = load_config(str(path), changes, adapting=True)
    dataset = known_data(argparse.Namespace(classes=11, channels=3, image_size=f"{side}x{side}"), config).dataset
    run = build(config, dataset, largest=(side, side), samples=4)
    subject = Subject(
        config,
        model=run.model,
        task=run.task,
        transform=run.transform,
        variables=run.variables(),
        batch=run.noise(2),
    )
    values = jax.device_get(subject.run())
    assert np.isfinite(values["loss"])
    assert values["grad_norm"] > 0
    assert subject.state.step == 1


def test_schema_defaults_are_a_config():
    from segjax.core.config import Config, from_dict, to_dict

    assert from_dict(to_dict(Config())) == Config()
    assert {field.name for field in dataclasses.fields(Config)} >= {"model", "data", "train"}
