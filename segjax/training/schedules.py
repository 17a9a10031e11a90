"""Learning-rate schedules: functions of the step, computed on the device."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from segjax.core.config import Schedule

ScheduleFn = Callable[[jax.Array | int], jax.Array]


def make_schedule(config: Schedule, peak: float, steps: int) -> ScheduleFn:
    """The learning rate at each of a run's steps 0 .. steps - 1.

    Warm-up rises in equal parts, `peak * (step + 1) / warmup_steps`, and reaches the peak at its last step. What
    follows sees only the share `p` of the remaining steps that is done, 0 <= p < 1:

      constant   peak
      poly       peak * (end + (1 - end) * (1 - p) ** power)              DeepLab, arXiv:1606.00915, section 4.1
      cosine     peak * (end + (1 - end) * (1 + cos(pi * p)) / 2)         SGDR, arXiv:1608.03983, equation 5
      step       peak * factor ** (number of boundaries <= p)

    Returns:
      A function of the step (int or int32 scalar) that gives a float32 scalar.
    """
    warmup = min(config.warmup_steps, steps)

    def shape(progress: jax.Array) -> jax.Array:
        match config.name:
            case "poly":
                return config.end + (1 - config.end) * (1 - progress) ** config.power
            case "cosine":
                return config.end + (1 - config.end) * (1 + jnp.cos(jnp.pi * progress)) / 2
            case "step":
                passed = jnp.sum(progress >= jnp.asarray(config.boundaries, jnp.float32))
                return jnp.asarray(config.factor, jnp.float32) ** passed
            case _:
                return jnp.ones((), jnp.float32)

    def schedule(step: jax.Array | int) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        progress = jnp.clip((step - warmup) / max(1, steps - warmup), 0.0, 1.0)
        rise = jnp.minimum(1.0, (step + 1) / warmup) if warmup else 1.0
        return jnp.asarray(peak * rise * shape(progress), jnp.float32)

    return schedule
