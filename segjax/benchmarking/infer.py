"""Prediction: raw pixels on the device to labels on the device."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from segjax.benchmarking.limits import Limits, compare, must_move
from segjax.benchmarking.timing import measure, summary
from segjax.training.throughput import device_memory_bytes, host_memory_bytes, step_flops


def benchmark_infer(predictor: Any, images: np.ndarray, limits: Limits, *, rounds: int) -> dict[str, Any]:
    """Times `predictor.predict_batch` (`inference.predictor.Predictor`) on images [B, H, W, C] that stay on the
    device."""
    sizes = np.tile(np.asarray(images.shape[1:3], np.int32), (len(images), 1))
    placed = predictor.place({"image": images, "size": sizes})

    def predict(variables: Any, images: jax.Array, sizes: jax.Array) -> jax.Array:
        return predictor.with_variables(variables).predict_batch(images, sizes)

    lowered = jax.jit(predict).lower(predictor.variables, placed["image"], placed["size"])
    program = lowered.compile()
    nbytes = must_move(program, 1 if predictor.mesh is None else predictor.mesh.size)
    middle = summary(measure(lambda: program(predictor.variables, placed["image"], placed["size"]), rounds))
    return {
        "batch": middle,
        "images_per_second": len(images) / middle["median"],
        **compare(middle["median"], limits, step_flops(lowered), nbytes),
        "device_memory": device_memory_bytes(),
        "host_memory": host_memory_bytes(),
    }
