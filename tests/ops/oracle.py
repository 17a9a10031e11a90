"""The operations as their definitions read: float64 numpy, one loop a pixel or a tap, NHWC."""

from __future__ import annotations

import math

import numpy as np


def conv2d(x, kernel, stride, rate, groups, pads):
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    height, width, inputs, features = kernel.shape
    rows, columns = ((n - (k - 1) * r - 1) // s + 1 for n, k, r, s in zip(x.shape[1:3], kernel.shape, rate, stride))
    y = np.zeros((x.shape[0], rows, columns, features))
    for i in range(height):
        for j in range(width):
            top, left = i * rate[0], j * rate[1]
            seen = x[:, top : top + (rows - 1) * stride[0] + 1 : stride[0]]
            seen = seen[:, :, left : left + (columns - 1) * stride[1] + 1 : stride[1]]
            for f in range(features):
                group = f // (features // groups)
                y[..., f] += seen[..., group * inputs : (group + 1) * inputs] @ kernel[i, j, :, f]
    return y


def conv_transpose2d(x, kernel, stride, padding, extra):
    taps, features = kernel.shape[:2], kernel.shape[3]
    full = [(n - 1) * s + k + e for n, s, k, e in zip(x.shape[1:3], stride, taps, extra)]
    y = np.zeros((x.shape[0], *full, features))
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            top, left = i * stride[0], j * stride[1]
            y[:, top : top + taps[0], left : left + taps[1]] += np.einsum("bc,hwcf->bhwf", x[:, i, j], kernel)
    return y[:, padding[0] : full[0] - padding[0], padding[1] : full[1] - padding[1]]


def windows(size, window, stride, padding, ceil_mode):
    """[(first, last + 1)] of each window along an axis, clipped to the image."""
    exact = (size + 2 * padding - window) / stride
    count = (math.ceil(exact) if ceil_mode else math.floor(exact)) + 1
    starts = [i * stride - padding for i in range(count)]
    starts = [start for start in starts if start < size]  # no window begins in the bottom padding
    return [(max(start, 0), min(start + window, size)) for start in starts]


def pool(x, rows, columns, reduce):
    """`reduce` over axes 1 and 2 of every cell."""
    return np.stack([np.stack([reduce(x[:, a:b, c:d]) for c, d in columns], 1) for a, b in rows], 1)


def maximum(cell):
    return cell.max((1, 2))


def mean(cell):
    return cell.mean((1, 2))


def max_index(x, rows, columns):
    """int [B, h, w, C]: row * W + column of the first maximum of every cell."""
    flat = np.zeros((x.shape[0], len(rows), len(columns), x.shape[3]), int)
    for i, (a, b) in enumerate(rows):
        for j, (c, d) in enumerate(columns):
            place = x[:, a:b, c:d].reshape(x.shape[0], -1, x.shape[3]).argmax(1)
            flat[:, i, j] = (a + place // (d - c)) * x.shape[2] + c + place % (d - c)
    return flat


def unpool(values, index, size):
    y = np.zeros((values.shape[0], size[0] * size[1], values.shape[3]))
    for b, i, j, c in np.ndindex(values.shape):
        y[b, index[b, i, j, c], c] = values[b, i, j, c]
    return y.reshape(values.shape[0], *size, values.shape[3])


def bins(size, count):
    return [(math.floor(i * size / count), math.ceil((i + 1) * size / count)) for i in range(count)]


def resize(x, size, method, align_corners, antialias):
    for axis in (1, 2):
        before, after = x.shape[axis], size[axis - 1]
        matrix = np.array([weights(i, before, after, method, align_corners, antialias) for i in range(after)])
        x = np.moveaxis(np.tensordot(matrix, x, (1, axis)), 0, axis)
    return x


def weights(out, before, after, method, align_corners, antialias):
    """The share of every source pixel in output pixel `out`, each tap beyond the border counted to the border's."""
    step = ((before - 1) / max(after - 1, 1)) if align_corners else before / after
    reach = 1 if method == "bilinear" else 2
    row = np.zeros(before)
    if antialias:
        stretch, centre = max(step, 1), step * (out + 0.5)
        a, b = (int(max(0, centre + sign * reach * stretch + 0.5)) for sign in (-1, 1))
        for pixel in range(a, min(b, before)):
            row[pixel] = filter_(abs(pixel + 0.5 - centre) / stretch, method, -0.5)
        return row / row.sum()
    source = out * step if align_corners else (out + 0.5) * step - 0.5
    source = max(source, 0) if method == "bilinear" else source
    for pixel in range(math.floor(source) - reach + 1, math.floor(source) + reach + 1):
        row[min(max(pixel, 0), before - 1)] += filter_(abs(pixel - source), method, -0.75)
    return row


def filter_(distance, method, a):
    if method == "bilinear":
        return max(0, 1 - distance)
    if distance <= 1:
        return (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    return a * distance**3 - 5 * a * distance**2 + 8 * a * distance - 4 * a if distance < 2 else 0


def batch_norm(x, scale, bias, eps):
    return (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + eps) * scale + bias
