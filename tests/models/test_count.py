"""Multiply-accumulates against figures counted by others, on their layouts."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
import pytest

from segjax.core.registry import create_model
from segjax.models.base import ImageNetwork
from segjax.models.count import cost
from segjax.nn.conv import Conv, UpConv
from segjax.ops.resize import resize


@pytest.mark.parametrize(
    ("name", "classes", "size", "gmacs", "output_stride"),
    [
        ("unet/same", 2, (512, 512), 192.69, 16),  # milesial/Pytorch-UNet
        ("segnet/caffe", 21, (512, 512), 163.07, 16),  # meetshah1995/pytorch-semseg
        ("enet/davidtvs", 12, (360, 480), 1.29, 8),  # davidtvs/PyTorch-ENet
        ("deeplabv3plus/resnet50-mmseg", 19, (512, 1024), 352.32, 8),  # mmsegmentation
    ],
)
def test_macs_equal_the_published_ones(name, classes, size, gmacs, output_stride):
    found = cost(create_model(name, classes), size)
    assert found.size == size
    assert round(found.macs / 1e9, 2) == gmacs
    assert found.output_stride == output_stride
    assert sum(macs for *_, macs in found.by_stride.values()) == found.macs  # no attention in these


class Mixed(ImageNetwork):
    """A strided, a grouped and a transposed convolution, an upsampling, a product with the image itself."""

    @property
    def stride(self) -> int:
        return 2

    @nn.compact
    def __call__(self, images, train=False):
        x = Conv(8, 3, stride=2)(images)
        x = Conv(8, 3, groups=8)(x)
        x = UpConv(self.num_classes, 3, stride=2, padding=1, output_padding=1)(x)
        x = resize(resize(x, (5, 7)), images.shape[1:3])
        affinity = jnp.einsum("bhwc,bhwd->bcd", x, x)
        return self.outputs(x @ affinity)


def test_by_hand():
    found = cost(Mixed(4), (9, 16))
    assert found.size == (10, 16)
    strided, grouped, transposed = 40 * 27 * 8, 40 * 9 * 8, 40 * 9 * 8 * 4
    assert found.by_stride == {
        1: (1, 9 * 8 * 4 + 4, transposed),
        2: (2, 27 * 8 + 8 + 9 * 8 + 8, strided + grouped),
    }
    assert found.macs == strided + grouped + transposed + 2 * 160 * 4 * 4
    assert found.parameters == 27 * 8 + 8 + 9 * 8 + 8 + 9 * 8 * 4 + 4
