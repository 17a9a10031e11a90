"""Mean-field inference in a fully connected CRF (Krähenbühl and Koltun, Efficient inference in fully connected CRFs
with Gaussian edge potentials, NIPS 2011, arXiv:1210.5644, algorithm 1), unrolled as in Zheng et al., Conditional random
fields as recurrent neural networks (ICCV 2015, arXiv:1502.03240)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.core.errors import ModelError, SizeError
from segjax.ops.crf.features import bilateral_features, check_bandwidth, spatial_features
from segjax.ops.crf.filter import (
    Filter,
    Normalization,
    apply_filter,
    build_filter,
    build_gaussian,
    check_overflow,
)

Weight = float | jax.Array

# Below this many pixels an exact sum is cheap; below this theta_beta a bilateral grid is too large.
_FEW_PIXELS = 4096
_GRID_THETA_BETA = 8.0


class CRFParams(NamedTuple):
    """Two Gaussian kernels and the label compatibility.

    Attributes:
      theta_alpha, theta_beta: standard deviations of the appearance kernel, in pixels and in units of the image
        (theta_beta may be [K], one a channel).
      theta_gamma: standard deviation of the smoothness kernel, in pixels.
      w_bilateral, w_spatial: the kernels' weights: a number, [C], or [C, C], which mixes the filtered classes.
      compat: what a label pays for its neighbours': a number times the identity, [C] on the diagonal, or [C, C].
        -1 is the Potts model, up to a constant that the softmax removes.

    The defaults are the example of Krähenbühl and Koltun's code: three pixels with weight 3; 80 pixels, 13 grey levels
    with weight 10.
    """

    theta_alpha: float | jax.Array = 80.0
    theta_beta: float | jax.Array = 13.0
    theta_gamma: float | jax.Array = 3.0
    w_bilateral: Weight = 10.0
    w_spatial: Weight = 3.0
    compat: Weight = -1.0


DEFAULTS = CRFParams()


def mean_field(
    logits: jax.Array,
    filters: Sequence[tuple[Filter, Weight]],
    compat: Weight = -1.0,
    iterations: int = 5,
    start: jax.Array | None = None,
) -> jax.Array:
    """Iterate q <- logits - compat (sum_k w_k F_k softmax(q)).

    Args:
      logits: [B, N, C], the negative unary energies.
      filters: pairs (filter, weight), weights as in `CRFParams`.
      compat: as in `CRFParams`.
      iterations: at least 0.
      start: the first q; the logits by default.

    Returns:
      float32 [B, N, C], the logits of the marginals after the last iteration: softmax gives Q.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    # An iteration's residuals are its input alone; the filters' own are made again.
    @jax.checkpoint
    def step(q, filters):
        marginals = jax.nn.softmax(q, axis=-1)
        message = sum(_mix(weight, apply_filter(kernel, marginals)) for kernel, weight in filters)
        return logits - _mix(compat, message)

    start = logits if start is None else start.astype(logits.dtype)
    return lax.scan(lambda q, _: (step(q, list(filters)), None), start, length=iterations)[0]


def dense_crf(
    logits: jax.Array,
    image: jax.Array,
    params: CRFParams = DEFAULTS,
    *,
    iterations: int = 5,
    method: Literal["auto", "lattice", "exact", "grid", "local"] = "auto",
    spatial: Literal["gaussian", "lattice"] = "gaussian",
    normalization: Normalization = "symmetric",
    exclude_self: bool = False,
    output: Literal["logits", "probs"] = "logits",
    image_range: float | None = 255.0,
    **options: Any,
) -> jax.Array:
    """Refine a network's logits with a fully connected CRF over its input image.

    Jittable, and differentiable in the logits, weights and compatibility, in theta_gamma, and with `exact` and `local`
    in theta_alpha and theta_beta. The parameters may be Python numbers or arrays.

    Args:
      logits: [B, H, W, C] or [H, W, C]; any affine-invariant score, usually a network's logits (log-probabilities
        up to a constant a pixel).
      image: [B, H, W, K] or [H, W, K], not normalised: the bandwidths are in its units.
      params: see `CRFParams`.
      iterations: mean-field updates.
      method: of the appearance kernel, see `build_filter`; `auto` takes `exact` for a few thousand pixels, else
        `lattice`, except on a TPU, which searches badly: there `grid` for theta_beta of at least 8.
      spatial: the smoothness kernel's: `gaussian` is exact and fast, `lattice` is what pydensecrf does.
      normalization: see `build_filter`; CRF-as-RNN uses `after`.
      exclude_self: a pixel sends no message to itself, as in the paper; pydensecrf includes it.
      output: `probs` for the marginals, `logits` for their logarithm up to a constant.
      image_range: largest minus smallest value the image can have, which bounds the tables; None for unknown, which
        `grid` cannot have and costs `lattice` a sort.
      options: further ones of `build_filter`: capacity, cell, window, blur.

    Returns:
      the shape of the logits, float32 (float64 for float64). On overflow of the lattice, or a NaN in the image, all NaN
      when traced.

    Raises:
      SizeError: shapes that do not fit, or the lattice overflowed and the call was not traced.
      ModelError: a bandwidth that is not positive, an unknown option.
    """
    logits, image = jnp.asarray(logits), jnp.asarray(image)
    if logits.ndim not in (3, 4) or logits.shape[:-1] != image.shape[:-1]:
        raise SizeError(
            f"logits {logits.shape} and image {image.shape}: give [B, H, W, C] and [B, H, W, K], or both without B"
        )
    if iterations < 0:
        raise ModelError(f"iterations={iterations}: give a number of at least 0")
    if output not in ("logits", "probs"):
        raise ModelError(f"output={output!r} is unknown: use 'logits' or 'probs'")
    if logits.ndim == 3:
        logits, image = logits[None], image[None]
        squeeze = True
    else:
        squeeze = False
    for name in ("theta_alpha", "theta_beta", "theta_gamma"):
        check_bandwidth(name, getattr(params, name))
    settings = dict(
        iterations=iterations,
        method=_choose(method, image.shape, params) if method == "auto" else method,
        spatial=spatial,
        normalization=normalization,
        exclude_self=exclude_self,
        output=output,
        image_range=image_range,
        options=tuple(sorted(options.items())),
    )
    # Python numbers stay static: they give the tables their size.
    thetas = tuple(_static(t) for t in params[:3])
    settings["static"] = tuple(t if isinstance(t, (float, tuple)) else None for t in thetas)
    traced = tuple(None if isinstance(t, (float, tuple)) else t for t in thetas)
    out, overflow, count = _dense_crf(logits, image, traced, tuple(params[3:]), **settings)
    if not isinstance(overflow, jax.core.Tracer):
        check_overflow(overflow, count)
    return out[0] if squeeze else out


@partial(
    jax.jit,
    static_argnames=(
        "static",
        "iterations",
        "method",
        "spatial",
        "normalization",
        "exclude_self",
        "output",
        "image_range",
        "options",
    ),
)
def _dense_crf(
    logits,
    image,
    traced,
    weights,
    *,
    static,
    iterations,
    method,
    spatial,
    normalization,
    exclude_self,
    output,
    image_range,
    options,
):
    alpha, beta, gamma = (s if t is None else t for s, t in zip(static, traced))
    beta = np.asarray(beta, np.float32) if isinstance(beta, tuple) else beta
    w_bilateral, w_spatial, compat = weights
    batch, height, width, channels = logits.shape
    shared = dict(normalization=normalization, exclude_self=exclude_self)
    extent = None
    if static[0] is not None and static[1] is not None and image_range is not None:
        colours = np.broadcast_to(np.asarray(static[1]), (image.shape[-1],))
        extent = tuple([(width - 1) / static[0], (height - 1) / static[0], *(float(image_range / c) for c in colours)])
    bilateral = build_filter(
        bilateral_features(image, alpha, beta), method, size=(height, width), extent=extent, **shared, **dict(options)
    )
    if spatial == "lattice":
        grid = jnp.broadcast_to(spatial_features(height, width, gamma), (batch, height * width, 2))
        bound = None if static[2] is None else ((width - 1) / static[2], (height - 1) / static[2])
        smooth = build_filter(grid, "lattice", extent=bound, **shared)
    elif spatial == "gaussian":
        smooth = build_gaussian(batch, (height, width), gamma, **shared)
    else:
        raise ModelError(f"spatial={spatial!r} is unknown: use 'gaussian' or 'lattice'")
    flat = logits.reshape(batch, height * width, channels)
    q = mean_field(flat, [(smooth, w_spatial), (bilateral, w_bilateral)], compat, iterations)
    q = jax.nn.softmax(q, -1) if output == "probs" else q
    return q.reshape(logits.shape), bilateral.overflow | smooth.overflow, bilateral.count


def _choose(method: str, shape: tuple[int, ...], params: CRFParams) -> str:
    if shape[-3] * shape[-2] <= _FEW_PIXELS:
        return "exact"
    beta = _static(params.theta_beta)
    static = isinstance(beta, (float, tuple)) and isinstance(_static(params.theta_alpha), float)
    if jax.default_backend() == "tpu" and static and np.min(beta) >= _GRID_THETA_BETA:
        return "grid"
    return "lattice"


def _static(theta: float | Sequence[float] | np.ndarray | jax.Array) -> float | tuple[float, ...] | jax.Array:
    """A hashable bandwidth where the value is known, the tracer otherwise."""
    if isinstance(theta, jax.core.Tracer):
        return theta
    value = np.asarray(theta)
    return float(value) if value.ndim == 0 else tuple(float(x) for x in value)


def _mix(weight: Weight, values: jax.Array) -> jax.Array:
    """The weight as a matrix, times each row of [..., C] values."""
    weight = jnp.asarray(weight, values.dtype)
    if weight.ndim == 2:
        return jnp.einsum("ij,...j->...i", weight, values, precision=lax.Precision.HIGHEST)
    return weight * values
