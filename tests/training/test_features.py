"""The cache of a frozen encoder's features, against runs that compute them at every step."""

from __future__ import annotations

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.cli.assembly import build
from segjax.cli.main import main
from segjax.core.config import Config, from_dict
from segjax.core.errors import ConfigError, ModelError
from segjax.core.fields import labelled_image
from segjax.core.paths import named_leaves
from segjax.core.registry import create_model
from segjax.core.schema import DatasetInfo
from segjax.data.augment import make_train_transform
from segjax.data.dataset import open_dataset
from segjax.data.pipeline import train_batches
from segjax.parallel.mesh import make_mesh
from segjax.parallel.transfer import numeric
from segjax.tasks.semantic.task import SemanticTask
from segjax.training.features import FeatureCache
from segjax.training.loop import train
from segjax.training.state import TrainState, init_variables

INFO = DatasetInfo("noise", ("a", "b", "c"), ((0, 0, 0), (255, 0, 0), (0, 0, 255)))
SAMPLES, SIDE = 6, 32


class Noise:
    """Six images of two sizes; the smaller lie in a window padded for the larger."""

    largest = (SIDE, SIDE)

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int):
        rng = np.random.default_rng(index)
        size = (SIDE, SIDE) if index % 2 else (SIDE - 8, SIDE)
        label = rng.integers(0, 3, size, dtype=np.uint8)
        return {"image": rng.integers(0, 256, (*size, 3), dtype=np.uint8), "label": label, "name": str(index)}


def _config(cached: bool, **changes) -> Config:
    changes = {key: dict(value) for key, value in changes.items()}
    settings = {"batch_size": 4, "cache_features": cached, "eval_every": 100, **changes.pop("train", {})}
    return from_dict(
        {
            "data": {"crop_size": (SIDE, SIDE)},
            "augment": {"flip": False},
            "optim": {"name": "sgd", "learning_rate": 0.05, "multipliers": {"^encoder/": 0}},
            "log": {"tensorboard": False},
            "train": settings,
            **changes,
        }
    )


def _train(workdir, config: Config, name: str = "segformer/test", *, steps: int = 4, resume: bool = False):
    batches = train_batches(
        Noise(), labelled_image((SIDE, SIDE)), batch_size=4, seed=0, threads=1, numbered=config.train.cache_features
    )
    result = train(
        config,
        model=create_model(name, 3, dtype=jnp.dtype(config.train.dtype)),
        task=SemanticTask(3),
        transform=make_train_transform(config.augment, INFO, (SIDE, SIDE)),
        batches=batches,
        info=INFO,
        steps=steps,
        workdir=workdir,
        samples=SAMPLES,
        resume=resume,
    )
    batches.close()
    return result.state


def _close(one, other, rtol=1e-4):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6), one, other)


@pytest.mark.parametrize(
    "changes",
    [{}, {"train": {"accumulate": 2}}, {"parallel": {"backend": "pmap"}}, {"train": {"remat": "all"}}],
    ids=["plain", "accumulate", "pmap", "remat"],
)
def test_a_cached_run_is_the_whole_one(changes, tmp_path, monkeypatch) -> None:
    """SegFormer's encoder has neither batch statistics nor (here) dropout, and so is the same in training."""
    met, meet = [], FeatureCache._meet

    def noted(self, samples, batch):
        met.append(set(samples.tolist()))
        meet(self, samples, batch)

    monkeypatch.setattr(FeatureCache, "_meet", noted)
    state = _train(tmp_path / "cached", _config(True, **changes))
    _close(state.params, _train(tmp_path / "whole", _config(False, **changes)).params)
    assert 0 < len(met) < 4, "the encoder ran at every step"
    assert set().union(*met) == set(range(SAMPLES))
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), state.params, _initial().params)
    assert not any(jax.tree.leaves(moved["encoder"]))
    assert any(jax.tree.leaves(moved))


def _initial() -> TrainState:
    variables = init_variables(create_model("segformer/test", 3), 0, (SIDE, SIDE, 3))
    return TrainState(0, variables["params"], {}, ())


def test_a_resumed_run_computes_them_again(tmp_path) -> None:
    config = _config(True, schedule={"name": "constant"})
    straight = _train(tmp_path / "straight", config)
    _train(tmp_path / "halves", config, steps=2)
    _close(_train(tmp_path / "halves", config, resume=True).params, straight.params, 1e-6)


def test_batch_statistics_of_the_encoder_stay(tmp_path) -> None:
    state = _train(tmp_path, _config(True), "deeplabv3plus/test")
    means = {key: leaf for key, leaf in named_leaves(state.model_state).items() if key.endswith("mean")}
    assert all((leaf == 0).all() for key, leaf in means.items() if "encoder/" in key)
    assert any((leaf != 0).any() for key, leaf in means.items() if "encoder/" not in key)


def _cache(name: str, multipliers=None, dtype=jnp.float32):
    model = create_model(name, 3, dtype=dtype)
    variables = init_variables(model, 0, (SIDE, SIDE, 3))
    state = TrainState(0, variables["params"], {k: v for k, v in variables.items() if k != "params"}, ())
    transform = make_train_transform(_config(True).augment, INFO, (SIDE, SIDE))
    multipliers = {"^encoder/": 0} if multipliers is None else multipliers
    cache = FeatureCache(
        model, SemanticTask(3), transform, state, multipliers=multipliers, samples=SAMPLES, mesh=make_mesh()
    )
    batches = train_batches(Noise(), labelled_image((SIDE, SIDE)), batch_size=4, seed=0, threads=1, numbered=True)
    return model, variables, cache, batches


def test_only_what_is_read_is_kept_and_in_its_type() -> None:
    """DeepLab v3+ reads stages 4 and 32, and 16 for the auxiliary head, but neither 2, 8 nor the image."""
    _, _, cache, batches = _cache("deeplabv3plus/test", dtype=jnp.bfloat16)
    batch = cache(next(batches))
    assert set(batch) == {"label", "valid", "features/4", "features/16", "features/32"}
    assert batch["features/4"].dtype == jnp.bfloat16
    assert set(numeric(batch)) == set(batch), "devices get them"
    batches.close()


def test_rows_are_the_encoders_of_the_images_they_stand_for() -> None:
    model, variables, cache, batches = _cache("deeplabv3plus/test")
    transform = make_train_transform(_config(True).augment, INFO, (SIDE, SIDE))
    encode = jax.jit(functools.partial(model.apply, variables, method="encode"))
    for _ in range(3):
        given = next(batches)
        batch = cache(given)
        seen = transform(jax.random.key(0), {key: given[key] for key in given if key != "sample"})
        expected = encode(seen["image"])
        np.testing.assert_array_equal(batch["label"], seen["label"])
        for stride in (4, 16, 32):
            np.testing.assert_allclose(batch[f"features/{stride}"], expected[stride], rtol=1e-4, atol=1e-5)
    batches.close()


def test_a_trained_encoder_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"encoder/.* is trained; freeze it with config.optim.multipliers"):
        _cache("deeplabv3plus/test", {"^encoder/stem": 0})


def test_a_network_without_an_encoder_is_refused() -> None:
    with pytest.raises(ModelError, match="ENet runs a whole encoder 0 times"):
        _cache("enet/test", {"initial": 0})


def test_more_than_the_memory_is_refused(monkeypatch) -> None:
    _, _, cache, batches = _cache("deeplabv3plus/test")
    real = os.sysconf
    monkeypatch.setattr(os, "sysconf", lambda name: 1 if name == "SC_PHYS_PAGES" else real(name))
    with pytest.raises(
        ConfigError, match=r"cache_features: the features of 6 images take .* GiB, and this machine has"
    ):
        cache(next(batches))
    batches.close()


@pytest.mark.parametrize(
    ("key", "value"), [("flip", True), ("scale", (0.5, 2.0)), ("brightness", 0.1), ("hue", 0.05)], ids=str
)
def test_augmentation_is_refused(key, value) -> None:
    with pytest.raises(ConfigError, match=rf"config.augment.{key}: .* set it to"):
        _config(True, augment={"flip": False, key: value})


@pytest.mark.parametrize("verb", ["plan", "benchmark"])
def test_verbs_that_know_whole_steps_only_say_so(verb, tmp_path, capsys) -> None:
    path = tmp_path / "config.py"
    path.write_text(
        "from ml_collections import ConfigDict\n\n\ndef get_config():\n    return ConfigDict(dict("
        "model=dict(name='enet'), augment=dict(flip=False), train=dict(steps=1, cache_features=True)))\n"
    )
    given = ["benchmark", "train"] if verb == "benchmark" else ["plan", "--topology=v5e:2x2"]
    assert main([*given, f"--config={path}"]) == 2
    assert (
        f"config.train.cache_features: segjax {verb} takes whole steps only; set it to False."
        in capsys.readouterr().err
    )


def test_the_crop_must_cover_the_images() -> None:
    config = _config(True, data={"name": "scenes", "crop_size": (32, 64), "options": {"count": 2}})
    with pytest.raises(ConfigError, match=r"crop_size: 32x64 cuts windows out of images of up to 128x160, and"):
        build(config, open_dataset(config.data)).batches()
