"""A network, a task and a data stream as small as they come, for the trainer's tests."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from segjax.core.config import Config, from_dict
from segjax.core.schema import DatasetInfo
from segjax.nn.norm import BatchNorm
from segjax.tasks.base import Task

INFO = DatasetInfo("toy", ("left", "right"), ((0, 0, 0), (255, 255, 255)))


class ToyNet(nn.Module):
    features: int = 4
    norm: bool = True
    dropout: float = 0.0

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        x = nn.Conv(self.features, (3, 3), name="stem")(images)
        if self.norm:
            x = BatchNorm(name="norm")(x, train)
        x = nn.Dropout(self.dropout, deterministic=not train)(nn.relu(x))
        return {"logits": nn.Conv(2, (1, 1), name="head")(x)}


class ToyTask(Task):
    def weights(self, batch: Any) -> dict[str, jax.Array]:
        return {"labels": jnp.sum(batch["label"] != 255).astype(jnp.float32)}

    def loss(self, outputs: Any, batch: Any, weights: Any, key: Any = None) -> tuple[jax.Array, dict[str, jax.Array]]:
        mask, weight = batch["label"] != 255, weights["labels"]
        log_p = jax.nn.log_softmax(outputs["logits"])
        picked = jnp.take_along_axis(log_p, jnp.where(mask, batch["label"], 0)[..., None].astype(jnp.int32), -1)
        total = -jnp.sum(picked[..., 0] * mask) / weight
        return total, {"loss": total, "void": jnp.sum(~mask) / weight}


class Stream:
    """Endless batches that depend on the position alone, like the pipeline's."""

    def __init__(self, batch_size: int = 4, size: int = 8, start: int = 0):
        self.batch_size, self.size, self.position = batch_size, size, start

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> dict[str, Any]:
        batch = make_batch(self.position, self.batch_size, self.size)
        self.position += 1
        return batch

    def get_state(self) -> dict[str, int]:
        return {"position": self.position}

    def set_state(self, state: dict[str, int]) -> None:
        self.position = state["position"]


def make_batch(seed: int, batch_size: int = 4, size: int = 8) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (batch_size, size, size, 3), dtype=np.uint8)
    label = (image[..., 0] > 127).astype(np.uint8)
    label[rng.random(label.shape) < 0.2] = 255  # unevenly many void pixels an image
    label[0, : size // 2] = 255
    return {"image": image, "label": label, "valid": np.ones(batch_size, bool), "name": ["x"] * batch_size}


def transform(key: jax.Array, batch: Any) -> dict[str, jax.Array]:
    """Normalisation and a random shift of the brightness, so that a wrong key shows."""
    image = batch["image"].astype(jnp.float32) / 128 - 1
    return {**batch, "image": image + 0.2 * jax.random.uniform(key)}


def config(**parts: Any) -> Config:
    record = {
        "name": "toy",
        "data": {"crop_size": (8, 8)},
        "optim": {"name": "adamw", "learning_rate": 0.05},
        "train": {"steps": 8, "batch_size": 4, "log_every": 3, "eval_every": 4},
        "log": {"tensorboard": False},
    }
    for key, value in parts.items():
        record[key] = {**record.get(key, {}), **value} if isinstance(value, dict) else value
    return from_dict(record)


def bitwise_equal(a: Any, b: Any) -> bool:
    same = jax.tree.map(lambda x, y: np.asarray(x).tobytes() == np.asarray(y).tobytes(), a, b)
    return bool(jax.tree.all(same))
