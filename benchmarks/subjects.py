"""Train steps and inference of segjax's networks on one batch of noise, as the benchmarks of whole networks time them.

Train: cross entropy with the auxiliary heads at 0.4, SGD with momentum, no augmentation. Infer: images to labels."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax.benchmarking.limits import must_move
from segjax.benchmarking.train import Subject
from segjax.core.config import from_dict
from segjax.core.registry import create_model
from segjax.core.schema import IMAGE, LABEL, LOGITS, VALID
from segjax.models.base import Network
from segjax.tasks.semantic.task import SemanticTask
from segjax.training.state import init_variables
from segjax.training.throughput import step_flops

CLASSES, AUX_WEIGHT, LEARNING_RATE, MOMENTUM = 19, 0.4, 0.01, 0.9


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """`--size`, `--batch`, `--dtype`: what `args` is asked for below."""
    parser.add_argument("--size", type=size_of, default=(256, 256), metavar="HxW")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")


def size_of(text: str) -> tuple[int, int]:
    """(512, 1024) of "512x1024"; a `type` of argparse."""
    height, width = text.split("x")
    return int(height), int(width)


def noise(args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """A batch: images float32 [B, H, W, 3], labels int64 [B, H, W]."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(args.batch, *args.size, 3)).astype(np.float32)
    return images, rng.integers(0, CLASSES, (args.batch, *args.size))


def host_batch(args: argparse.Namespace) -> dict[str, np.ndarray]:
    """The same, as the input pipeline gives it."""
    images, labels = noise(args)
    return {IMAGE: images, LABEL: labels.astype(np.uint8), VALID: np.ones(len(images), bool)}


def network(name: str, args: argparse.Namespace) -> Network:
    """Computes in `args.dtype`."""
    return create_model(name, CLASSES, dtype=jnp.dtype(args.dtype))


def subject(
    name: str,
    args: argparse.Namespace,
    *,
    multipliers: Mapping[str, float] | None = None,
    batch: Mapping[str, Any] | None = None,
) -> Subject:
    """A network's train step on `batch` (default `host_batch`), with `config.optim.multipliers`."""
    config = from_dict(
        {
            "data": {"crop_size": args.size},
            "train": {"batch_size": args.batch, "dtype": args.dtype},
            "optim": {
                "name": "sgd",
                "learning_rate": LEARNING_RATE,
                "momentum": MOMENTUM,
                "weight_decay": 0.0,
                "multipliers": dict(multipliers or {}),
            },
            "parallel": {"data": 1},
        }
    )
    return Subject(
        config,
        model=network(name, args),
        task=SemanticTask(CLASSES, aux_weight=AUX_WEIGHT),
        transform=None,
        batch=host_batch(args) if batch is None else batch,
    )


def train_step(name: str, args: argparse.Namespace) -> tuple[Callable[[], Any], dict[str, Any]]:
    """(one step, {flops, nbytes, compile_seconds})."""
    one = subject(name, args)
    began = time.perf_counter()
    one.compiled  # noqa: B018 - compiles
    seconds = time.perf_counter() - began
    return (
        lambda: jax.block_until_ready(one.run()),
        {"flops": one.flops, "nbytes": one.nbytes, "compile_seconds": seconds},
    )


def inference(name: str, args: argparse.Namespace) -> tuple[Callable[[], Any], dict[str, Any]]:
    """(labels of the batch, {flops, nbytes, compile_seconds})."""
    model = network(name, args)
    images, _ = noise(args)
    variables = jax.device_put(init_variables(model, 0, images.shape[1:]))
    placed = jax.device_put(images)

    def labels(variables: Any, images: jax.Array) -> jax.Array:
        return jnp.argmax(model.apply(variables, images)[LOGITS].upsample(), axis=-1).astype(jnp.uint8)

    began = time.perf_counter()
    lowered = jax.jit(labels).lower(variables, placed)
    compiled = lowered.compile()
    seconds = time.perf_counter() - began
    return (
        lambda: jax.block_until_ready(compiled(variables, placed)),
        {"flops": step_flops(lowered), "nbytes": must_move(compiled, 1), "compile_seconds": seconds},
    )
