"""Numbers of the network and the task as arguments of one program: a zoo network's members and their separate runs."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.cli.members import arguments_of, builder
from segjax.core.config import from_dict
from segjax.core.errors import ConfigError
from segjax.core.registry import create_model
from segjax.core.schema import DatasetInfo
from segjax.sweep.variants import Variant
from segjax.tasks.semantic.task import SemanticTask
from segjax.training.loop import train
from segjax.training.members import Member, train_members
from segjax.training.state import init_variables

INFO = DatasetInfo("toy", ("a", "b", "c"), ((0, 0, 0), (9, 9, 9), (99, 99, 99)))
BASE = {
    "model": {"name": "pspnet/test"},
    "data": {"crop_size": (32, 32)},
    "optim": {"name": "sgd", "learning_rate": 0.05, "weight_decay": 0.0},
    "train": {"steps": 3, "batch_size": 2, "log_every": 1},
    "log": {"tensorboard": False},
}
CHANGES = [
    {},
    {"seed": 1},
    {"optim.learning_rate": 0.02},
    {"optim.weight_decay": 0.01},
    {"loss.label_smoothing": 0.1},
    {"loss.aux_weight": 0.9},
    {"loss.class_weights": [1.0, 2.0, 0.5]},
    {"model.options.dropout": 0.4},
]


class Stream:
    def __init__(self, seed: int):
        self.seed, self.position = seed, 0

    def __next__(self):
        rng = np.random.default_rng([self.seed, self.position])
        self.position += 1
        return {
            "image": rng.normal(size=(2, 32, 32, 3)).astype(np.float32),
            "label": rng.integers(0, 3, (2, 32, 32)).astype(np.uint8),
        }

    def get_state(self):
        return self.position


def _variants(changes) -> list[Variant]:
    found = []
    for number, change in enumerate(changes):
        record = {key: dict(value) for key, value in BASE.items()}
        for key, value in change.items():
            *parents, last = key.split(".")
            group = record
            for part in parents:
                group = group.setdefault(part, {})
            group[last] = value
        found.append(Variant(str(number), change, from_dict({**record, "name": str(number)})))
    return found


def _parts(variants, dtype=jnp.float32):
    models = [create_model(v.config.model.name, num_classes=3, dtype=dtype, **v.config.model.options) for v in variants]
    tasks = []
    for v in variants:
        loss = v.config.loss
        weights = loss.class_weights if isinstance(loss.class_weights, tuple) else None
        tasks.append(SemanticTask(3, "cross_entropy", loss.label_smoothing, weights, loss.aux_weight))
    return models, tasks


@pytest.mark.slow
def test_eight_members_of_a_zoo_network_equal_eight_runs_in_float64(tmp_path: Path) -> None:
    """Each member differs from the first in one thing: its state after three steps is that of a run of its own."""
    with jax.enable_x64(True):
        variants = _variants(CHANGES)
        models, tasks = _parts(variants, jnp.float64)
        arguments, network = arguments_of(variants, models, tasks)
        assert set(arguments) == {
            "seed", "optim.learning_rate", "optim.weight_decay", "loss.label_smoothing", "loss.aux_weight",
            "loss.class_weights", "dropout",
        }  # fmt: skip
        variables = [
            jax.tree.map(lambda x: np.asarray(x, np.float64), init_variables(model, v.config.seed, (32, 32, 3)))
            for model, v in zip(models, variants)
        ]
        members = [
            Member(v.config, model, task, Stream(v.config.seed), tmp_path / "together" / v.name, initial)
            for v, model, task, initial in zip(variants, models, tasks, variables)
        ]
        together = train_members(
            members, arguments=arguments, build=builder(network, tasks[0]), transform=None, info=INFO, steps=3
        ).states
        for v, model, task, initial, state in zip(variants, models, tasks, variables, together):
            alone = train(
                v.config, model=model, task=task, transform=None, batches=Stream(v.config.seed), info=INFO, steps=3,
                workdir=tmp_path / "alone" / v.name, variables=initial,
            ).state  # fmt: skip
            assert {leaf.dtype for leaf in jax.tree.leaves(alone.params)} == {np.dtype(np.float64)}
            for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(alone), strict=True):
                np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-9, atol=1e-9, err_msg=v.name)
            if v.name != "0":
                moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), state.params, together[0].params)
                assert max(jax.tree.leaves(moved)) > 1e-6, f"{v.overrides} changed nothing"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            [{"model.name": "segnet/bayesian", "model.options.dropped_levels": levels} for levels in ([2], [2, 3])],
            r"config\.model\.options\.dropped_levels is \[2\] in '0': no rate of dropout",
        ),
        ([{"model.options.dropout": rate} for rate in (0.1, 1.0)], "rates below 1"),
    ],
)
def test_what_is_no_argument_is_named(changes, words: str) -> None:
    variants = _variants(changes)
    with pytest.raises(ConfigError, match=words):
        arguments_of(variants, *_parts(variants))


def test_dropout_of_zero_is_a_rate_like_any_other() -> None:
    variants = _variants([{"model.name": "unet/test", "model.options.dropout": rate} for rate in (0.0, 0.5)])
    models, tasks = _parts(variants)
    arguments, network = arguments_of(variants, models, tasks)
    assert network is models[1]
    assert [set(rates.values()) for rates in arguments["dropout"]] == [{0.0}, {0.5}]
