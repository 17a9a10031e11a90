"""Starting from another run's checkpoint: what goes where, and what is refused."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest
from toy_run import INFO, Stream, ToyNet, ToyTask, bitwise_equal, config, transform

from segjax.core.config import Init, to_dict
from segjax.core.errors import CheckpointError, ConfigError
from segjax.core.registry import create_model
from segjax.core.schema import DatasetInfo
from segjax.parallel.mesh import make_mesh
from segjax.training.checkpoint import Checkpointer, read_checkpoint
from segjax.training.loop import train
from segjax.training.pretrained import pretrained
from segjax.training.state import init_state, init_variables


class Wrapped(nn.Module):
    """A toy network inside another."""

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        logits = ToyNet(name="unary")(images, train)["logits"]
        return {"logits": nn.Conv(2, (1, 1), name="after")(logits)}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Steps 1 and 2 of a ToyNet, the first the best; the average is the parameters plus 1."""
    workdir = tmp_path_factory.mktemp("run")
    state = init_state(init_variables(ToyNet(), 5, (8, 8, 3)), optax.sgd(0.1), make_mesh(), ema=True)
    state.ema = jax.tree.map(lambda x: x + 1, state.ema)
    saver = Checkpointer(workdir, config=to_dict(config()), info=INFO, best="miou", resume=False)
    saver.save(1, state, iterator=None, metrics={"miou": 0.9})
    state.ema = jax.tree.map(lambda x: x + 1, state.ema)
    saver.save(2, state, iterator=None, metrics={"miou": 0.1})
    saver.close()
    return workdir


def _fresh(net: Any) -> dict[str, Any]:
    return init_variables(net, 0, (8, 8, 3))


def test_the_average_of_the_chosen_step_replaces_everything(run: Path) -> None:
    fresh = _fresh(ToyNet())
    for which, step in (("best", 1), ("last", 2), ("2", 2)):
        taken = pretrained(Init(str(run), which), fresh)
        assert bitwise_equal(taken, read_checkpoint(run, step).variables)
        assert jax.tree.structure(taken) == jax.tree.structure(fresh)


def test_into_a_submodule_the_rest_stays_fresh(run: Path) -> None:
    fresh = _fresh(Wrapped())
    taken = pretrained(Init(str(run), into="unary"), fresh)
    saved = read_checkpoint(run).variables
    assert bitwise_equal(taken["params"]["unary"], saved["params"])
    assert bitwise_equal(taken["batch_stats"]["unary"], saved["batch_stats"])
    assert bitwise_equal(taken["params"]["after"], fresh["params"]["after"])


def test_what_is_skipped_stays_fresh(run: Path) -> None:
    fresh = _fresh(ToyNet())
    fresh["params"]["head"] = {"kernel": np.zeros((1, 1, 4, 7)), "bias": np.zeros(7)}  # another number of classes
    taken = pretrained(Init(str(run), skip=("^head/",)), fresh)
    assert bitwise_equal(taken["params"]["head"], fresh["params"]["head"])
    assert bitwise_equal(taken["params"]["stem"], read_checkpoint(run).variables["params"]["stem"])


def _without_norm(fresh: dict[str, Any]) -> None:
    del fresh["params"]["norm"]


def _wider_head(fresh: dict[str, Any]) -> None:
    fresh["params"]["head"]["bias"] = np.zeros(7)


def _extra(fresh: dict[str, Any]) -> None:
    fresh["params"]["extra"] = {f"p{i}": np.zeros(1) for i in range(5)}


@pytest.mark.parametrize(
    ("change", "init", "error", "words"),
    [
        (_without_norm, {}, CheckpointError, r"\(step 1\) has params/norm/bias, params/norm/scale that the network"),
        (_extra, {}, CheckpointError, "lacks params/extra/p0, params/extra/p1, params/extra/p2 and 2 more of"),
        (_wider_head, {}, CheckpointError, r"head/bias has shape \[2\] there and \[7\] here.*skip=\('head/bias',\)"),
        (None, {"into": "stme"}, ConfigError, "no submodule 'stme'. Did you mean 'stem'"),
        (None, {"into": "stem"}, CheckpointError, "has .*params/stem/head/bias"),
        (None, {"skip": ("^hed",)}, ConfigError, "'\\^hed' finds nothing"),
        (None, {"skip": ("(",)}, ConfigError, "no regular expression"),
        (None, {"which": "7"}, CheckpointError, "no whole checkpoint of step 7"),
        (None, {"checkpoint": "absent"}, CheckpointError, "no such folder"),
    ],
)
def test_anything_that_does_not_fit_is_one_line(run: Path, change, init: dict, error: type, words: str) -> None:
    fresh = _fresh(ToyNet())
    if change is not None:
        change(fresh)
    with pytest.raises(error, match=words) as raised:
        pretrained(Init(**{"checkpoint": str(run), **init}), fresh)
    assert "\n" not in str(raised.value)


def test_a_head_of_other_classes_is_refused(run: Path, caplog) -> None:
    fresh, there = _fresh(ToyNet()), Init(str(run))
    swapped = dataclasses.replace(INFO, classes=INFO.classes[::-1])
    with pytest.raises(CheckpointError, match=r"class 0 is 'left' there and 'right' here; config.init.skip=") as raised:
        pretrained(there, fresh, swapped)
    assert "\n" not in str(raised.value)
    expected = pretrained(there, fresh)
    assert bitwise_equal(pretrained(there, fresh, INFO), expected)
    assert bitwise_equal(pretrained(dataclasses.replace(there, classes_differ=True), fresh, swapped), expected)
    kept = pretrained(dataclasses.replace(there, skip=("^head/",)), fresh, swapped)
    assert bitwise_equal(kept["params"]["stem"], expected["params"]["stem"])
    assert not caplog.records


def test_pixels_of_another_kind_are_told_of(run: Path, caplog) -> None:
    other = dataclasses.replace(INFO, channel_order="bgr")
    pretrained(Init(str(run)), _fresh(ToyNet()), other)
    assert "channel_order rgb there, bgr here" in caplog.text


def test_arrays_that_depend_on_the_classes_are_found_by_making_the_network_for_one_more(tmp_path: Path) -> None:
    """A hidden layer as wide as the list of classes is none of them."""
    classes = tuple("abcdefgh")
    options = {"base_channels": 8, "depth": 1}
    info = DatasetInfo("toy", classes, ((0, 0, 0),) * 8)
    variables = init_variables(create_model("unet/same", 8, **options), 0, (16, 16, 3))
    settings = config(model={"name": "unet/same", "options": options})
    saver = Checkpointer(tmp_path, config=to_dict(settings), info=info, best="miou", resume=False)
    saver.save(1, init_state(variables, optax.sgd(0.1), make_mesh(), ema=False), iterator=None)
    saver.close()
    other = dataclasses.replace(info, classes=classes[::-1])
    with pytest.raises(CheckpointError, match=r"skip=\('\^logits/',\)"):
        pretrained(Init(str(tmp_path)), variables, other)
    pretrained(Init(str(tmp_path), skip=("^logits/",)), variables, other)


def test_a_run_starts_from_it_and_a_resumed_one_does_not_need_it(run: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(run, source)
    settings = config(init={"checkpoint": str(source)}, train={"ema": 0.9}, optim={"multipliers": {".*/bias": 0}})

    def go(steps: int, resume: bool):
        return train(
            settings,
            model=ToyNet(),
            task=ToyTask(),
            transform=transform,
            batches=Stream(),
            info=INFO,
            steps=steps,
            workdir=tmp_path / "run",
            evaluate=lambda state: {"miou": 0.5},
            resume=resume,
        )

    first = go(2, False)
    taken = read_checkpoint(run).variables
    assert bitwise_equal(first.state.params["head"]["bias"], taken["params"]["head"]["bias"])
    assert not bitwise_equal(first.state.params["head"]["kernel"], taken["params"]["head"]["kernel"])
    shutil.rmtree(source)
    second = go(4, True)
    assert second.step == 4
    assert bitwise_equal(second.state.params["head"]["bias"], taken["params"]["head"]["bias"])
