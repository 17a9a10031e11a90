"""Prediction: raw pixels on the device to labels on the device."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from segjax.benchmarking.limits import Limits, compare, must_move
from segjax.benchmarking.timing import measure, summary
from segjax.training.throughput import device_memory_bytes, host_memory_bytes, step_flops


def benchmark_infer(engine: Any, images: np.ndarray, limits: Limits, *, rounds: int) -> dict[str, Any]:
    """Times `engine.predictions` (`inference.engine.Engine`) on images [B, H, W, C] that stay on the device."""
    sizes = np.tile(np.asarray(images.shape[1:3], np.int32), (len(images), 1))
    placed = engine.place({"image": images, "size": sizes})

    def predict(variables: Any, batch: Any) -> Any:
        return engine.with_variables(variables).predictions(batch)

    lowered = jax.jit(predict).lower(engine.variables, placed)
    program = lowered.compile()
    nbytes = must_move(program, 1 if engine.mesh is None else engine.mesh.size)
    middle = summary(measure(lambda: program(engine.variables, placed), rounds))
    return {
        "batch": middle,
        "images_per_second": len(images) / middle["median"],
        **compare(middle["median"], limits, step_flops(lowered), nbytes),
        "device_memory": device_memory_bytes(),
        "host_memory": host_memory_bytes(),
    }
