"""pydensecrf's interface (github.com/lucasb-eyer/pydensecrf, 2723c7f), so that code written for it runs on jax:

    import segjax.compat.pydensecrf as dcrf   # was: import pydensecrf.densecrf as dcrf
    from segjax.compat.pydensecrf import unary_from_softmax   # was: from pydensecrf.utils import ...

Same arguments, same (labels, pixels) arrays, same results up to rounding: both kernels go through the permutohedral
lattice, as there. `inference` returns numpy. For a batch, gradients or another method, see `segjax.ops.crf`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from segjax.core.errors import ModelError, SizeError
from segjax.ops.crf.features import check_bandwidth
from segjax.ops.crf.filter import Filter, apply_filter, build_filter, check_filter
from segjax.ops.crf.mean_field import mean_field

NO_NORMALIZATION, NORMALIZE_BEFORE, NORMALIZE_AFTER, NORMALIZE_SYMMETRIC = range(4)
CONST_KERNEL, DIAG_KERNEL, FULL_KERNEL = range(3)
_NORMALIZATION = ("none", "before", "after", "symmetric")


class DenseCRF:
    """A dense CRF over `nvar` points with `nlabels` labels; energies are negative logarithms, [nlabels, nvar]."""

    def __init__(self, nvar: int, nlabels: int) -> None:
        self._points, self._labels = nvar, nlabels
        self._unary = np.zeros((nlabels, nvar), np.float32)
        self._pairwise: list[tuple[Filter, np.ndarray]] = []

    def setUnaryEnergy(self, u: np.ndarray, f: np.ndarray | None = None) -> None:
        """Set u [nlabels, nvar], or the logistic form u [nlabels, K] @ f [K, nvar]."""
        u = np.asarray(u, np.float32) if f is None else np.asarray(u, np.float32) @ np.asarray(f, np.float32)
        if u.shape != (self._labels, self._points):
            raise SizeError(f"Bad shape for unary energy (Need {(self._labels, self._points)}, got {u.shape})")
        self._unary = u

    def addPairwiseEnergy(
        self,
        features: np.ndarray,
        compat: float | np.ndarray,
        kernel: int = DIAG_KERNEL,
        normalization: int = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Add exp(-|f_i - f_j|^2 / 2) over features [d, nvar]. `compat`: a number w for Potts (-w for equal labels),
        [L] on the diagonal, or [L, L], of which the symmetric part counts. The kernels differ in their learnable
        parameters alone, which pydensecrf does not expose, so `kernel` changes nothing."""
        self._add(np.asarray(features, np.float32), None, compat, kernel, normalization)

    def _add(self, features, extent, compat, kernel, normalization) -> None:
        if features.ndim != 2 or features.shape[1] != self._points:
            raise SizeError(f"Bad shape for pairwise energy (Need (?, {self._points}), got {features.shape})")
        if kernel not in (CONST_KERNEL, DIAG_KERNEL, FULL_KERNEL):
            raise ModelError(f"kernel={kernel!r} is unknown: use CONST_KERNEL, DIAG_KERNEL or FULL_KERNEL")
        if normalization not in range(4):
            raise ModelError(f"normalization={normalization!r} is unknown: use NO_NORMALIZATION or a NORMALIZE_*")
        built = _build(features.T, normalization=_NORMALIZATION[normalization], extent=extent)
        check_filter(built)
        self._pairwise.append((built, self._matrix(compat)))

    def inference(self, niter: int) -> np.ndarray:
        """The marginals Q, float32 [nlabels, nvar], after `niter` mean-field updates."""
        return np.array(_inference(self._unary, self._pairwise, niter))

    def startInference(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Q from the unary energies alone, and two scratch arrays, for `stepInference`."""
        return self.inference(0), np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32)

    def stepInference(self, Q: np.ndarray, tmp1: np.ndarray, tmp2: np.ndarray) -> None:
        """Update Q in place once; the scratch arrays, which pydensecrf asks for, stay as they are."""
        Q[...] = np.asarray(_step(self._unary, self._pairwise, Q))

    def klDivergence(self, Q: np.ndarray) -> float:
        """The divergence of Q from the CRF's distribution, up to its partition function."""
        return float(_divergence(self._unary, self._pairwise, Q))

    def _matrix(self, compat: float | np.ndarray) -> np.ndarray:
        """[L, L], what an update subtracts from the negated unaries per filtered marginal."""
        compat = np.asarray(compat, np.float32)
        if compat.ndim > 2 or any(n != self._labels for n in compat.shape):
            raise SizeError(f"compat has shape {compat.shape}; give a number, [{self._labels}] or its square")
        if compat.ndim == 0:
            return -compat * np.eye(self._labels, dtype=np.float32)
        return np.diag(compat) if compat.ndim == 1 else (compat + compat.T) / 2


class DenseCRF2D(DenseCRF):
    """A dense CRF over the pixels of a w x h image, row by row."""

    def __init__(self, w: int, h: int, nlabels: int) -> None:
        super().__init__(w * h, nlabels)
        self._width, self._height = w, h

    def addPairwiseGaussian(
        self,
        sxy: float | Sequence[float],
        compat: float | np.ndarray,
        kernel: int = DIAG_KERNEL,
        normalization: int = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Smoothness: a Gaussian of position, `sxy` in pixels, one number or (x, y)."""
        features, extent = self._positions(sxy)
        self._add(features, extent, compat, kernel, normalization)

    def addPairwiseBilateral(
        self,
        sxy: float | Sequence[float],
        srgb: float | Sequence[float],
        rgbim: np.ndarray,
        compat: float | np.ndarray,
        kernel: int = DIAG_KERNEL,
        normalization: int = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Appearance: a Gaussian of position and colour, of a uint8 image [h, w, 3]."""
        rgbim = np.asarray(rgbim)
        if rgbim.shape != (self._height, self._width, 3):
            raise SizeError(
                f"Bad shape for pairwise bilateral (Need {(self._height, self._width, 3)}, got {rgbim.shape})"
            )
        if rgbim.dtype != np.uint8:
            raise ModelError(f"rgbim has dtype {rgbim.dtype}; give uint8, or use create_pairwise_bilateral")
        scale = np.broadcast_to(np.asarray(srgb, np.float32), (3,))
        check_bandwidth("srgb", scale)
        colour = rgbim.reshape(-1, 3).T.astype(np.float32) / scale[:, None]
        features, extent = self._positions(sxy)
        extent += tuple((255 / scale).tolist())
        self._add(np.concatenate([features, colour]), extent, compat, kernel, normalization)

    def _positions(self, sxy: float | Sequence[float]) -> tuple[np.ndarray, tuple[float, ...]]:
        """Features (x, y) / sxy, and what they span: known beforehand, so every image runs the same program."""
        sx, sy = np.broadcast_to(np.asarray(sxy, np.float32), (2,))
        check_bandwidth("sxy", (sx, sy))
        y, x = np.mgrid[: self._height, : self._width].astype(np.float32)
        extent = float((self._width - 1) / sx), float((self._height - 1) / sy)
        return np.stack([x.ravel() / sx, y.ravel() / sy]), extent


_build = jax.jit(partial(build_filter, method="lattice"), static_argnames=("normalization", "extent"))


def _logits(unary, pairwise, q, iterations):
    """The mean field's logits from its unary energies and marginals, all [L, N] outside."""
    kernels = [(built, matrix) for built, matrix in pairwise]
    return mean_field(-unary.T[None], kernels, 1.0, iterations, q)[0].T


@partial(jax.jit, static_argnames="niter")
def _inference(unary, pairwise, niter):
    return jax.nn.softmax(_logits(unary, pairwise, None, niter), 0)


@jax.jit
def _step(unary, pairwise, Q):
    # The update takes the softmax of its argument, and log Q is the logits up to a constant.
    return jax.nn.softmax(_logits(unary, pairwise, jnp.log(Q).T[None], 1), 0)


@jax.jit
def _divergence(unary, pairwise, Q):
    total = jnp.sum(Q * jnp.log(jnp.maximum(Q, 1e-20))) + jnp.sum(unary * Q)
    for built, matrix in pairwise:
        total += jnp.sum(Q * (matrix @ apply_filter(built, Q.T).T))
    return total


def unary_from_labels(labels: np.ndarray, n_labels: int, gt_prob: float, zero_unsure: bool = True) -> np.ndarray:
    """Energies [n_labels, pixels] of an annotation that is right with probability `gt_prob`. With `zero_unsure` the
    label 0 means unknown, and the classes are 1..n_labels."""
    if not 0 < gt_prob < 1:
        raise ModelError(f"gt_prob={gt_prob}: give a probability strictly between 0 and 1")
    labels = np.asarray(labels).ravel()
    energy = np.full((n_labels, labels.size), -np.log((1 - gt_prob) / (n_labels - 1)), np.float32)
    energy[labels - 1 if zero_unsure else labels, np.arange(labels.size)] = -np.log(gt_prob)
    if zero_unsure:
        energy[:, labels == 0] = np.log(n_labels)
    return energy


def unary_from_softmax(sm: np.ndarray, scale: float | None = None, clip: float | None = 1e-5) -> np.ndarray:
    """Energies [classes, pixels] of probabilities [classes, ...]: mixed with the uniform distribution by `scale`, and
    clipped from below."""
    if scale is not None:
        if not 0 < scale <= 1:
            raise ModelError(f"scale={scale}: give a number above 0, at most 1")
        sm = scale * sm + (1 - scale) / len(sm)
    if clip is not None:
        sm = np.clip(sm, clip, 1.0)
    return -np.log(sm).reshape(len(sm), -1).astype(np.float32)


def create_pairwise_gaussian(sdims: Sequence[float], shape: Sequence[int]) -> np.ndarray:
    """Features [len(shape), points] of position: each index over its standard deviation. Rows come before columns, so
    for an image this is (y, x), where `addPairwiseGaussian` has (x, y)."""
    mesh = np.indices(tuple(shape), dtype=np.float32)
    mesh[: len(sdims)] /= np.asarray(sdims, np.float32).reshape(-1, *(1,) * len(shape))
    return mesh.reshape(len(shape), -1)


def create_pairwise_bilateral(
    sdims: Sequence[float], schan: float | Sequence[float], img: np.ndarray, chdim: int = -1
) -> np.ndarray:
    """Features [dimensions + channels, points] of position and colour; `chdim` is the channel axis, -1 for none."""
    img = np.asarray(img)
    image = np.moveaxis(img, chdim, 0) if chdim != -1 else img[None]
    scale = np.broadcast_to(np.asarray(schan, np.float32), (len(image),))
    colour = image.astype(np.float32).reshape(len(image), -1) / scale[:, None]
    return np.concatenate([create_pairwise_gaussian(sdims, image.shape[1:]), colour])
