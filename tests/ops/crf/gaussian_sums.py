"""The filters' oracle: all pairs in float64 numpy."""

from __future__ import annotations

import numpy as np


def kernel(features: np.ndarray, exclude_self: bool = False) -> np.ndarray:
    """float64 [N, N] of [N, d] features."""
    features = np.asarray(features, np.float64)
    matrix = np.exp(-0.5 * ((features[:, None] - features[None]) ** 2).sum(-1))
    return matrix - np.eye(len(matrix)) if exclude_self else matrix


def normalised(matrix: np.ndarray, normalization: str) -> np.ndarray:
    n = matrix.sum(1)
    if normalization == "symmetric":
        return matrix / np.sqrt(n)[:, None] / np.sqrt(n)
    return {"before": matrix / n, "after": matrix / n[:, None], "none": matrix}[normalization]


def softmax(x: np.ndarray) -> np.ndarray:
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def mean_field(logits: np.ndarray, kernels, compat: np.ndarray, iterations: int) -> np.ndarray:
    """Algorithm 1 of arXiv:1210.5644 on [N, C] logits, with dense [N, N] kernels and [C, C] weights."""
    q = logits
    for _ in range(iterations):
        marginals = softmax(q)
        message = sum(matrix @ marginals @ weight.T for matrix, weight in kernels)
        q = logits - message @ compat.T
    return q
