"""HRNet as a feature extractor: four resolutions side by side, mixed again and again.

Wang, Sun, Cheng, Jiang, Deng, Zhao, Liu, Mu, Tan, Wang, Liu, Xiao. Deep High-Resolution Representation Learning for
Visual Recognition. TPAMI 2021. arXiv:1908.07919. Layout: section 3, figure 2, and the authors' configuration files.

Trainable parameters without any head: hrnet_w18 9,562,260 and hrnet_w48 65,325,120, equal to mmsegmentation's and to
CSAILVision's; hrnet_w18_small 1,477,920 and hrnet_w18_small_v2 3,860,720, equal to timm's less its classification head;
hrnet_w32 29,305,536, by the same layers.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.core.errors import ModelError
from segjax.models.encoders.base import Encoder
from segjax.models.encoders.resnet import BasicBlock, Bottleneck
from segjax.nn.conv import ConvNorm
from segjax.ops.residual import relu_of_sum
from segjax.ops.resize import resize


class ParallelBranches(nn.Module):
    """Residual blocks on each of several resolutions, then every resolution's sum over all of them (section 3.2).

    `[x_0, x_1, ...]`, x_i [B, H / 2^i, W / 2^i, width * 2^i] -> the same shapes; called `(branches, train)`. Children:
    `branchI_blockJ`; `fuse_I_to_J`, a 1x1 ConvNorm for upsampling, and `fuse_I_to_J_convK`, 3x3 ones of stride 2.

    Attributes:
      width: channels at the finest resolution.
      blocks: residual blocks of each branch.
      align_corners: of the upsampling.
    """

    width: int
    blocks: int
    align_corners: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, branches: list[jax.Array], train: bool) -> list[jax.Array]:
        branches = list(branches)
        for i, x in enumerate(branches):
            for j in range(self.blocks):
                x = BasicBlock(self.width * 2**i, dtype=self.dtype, name=f"branch{i + 1}_block{j + 1}")(x, train)
            branches[i] = x
        return [
            relu_of_sum(*(self._moved(x, i, j, branches, train) for i, x in enumerate(branches)))
            for j in range(len(branches))
        ]

    def _moved(self, x: jax.Array, i: int, j: int, branches: list[jax.Array], train: bool) -> jax.Array:
        """Branch i at the resolution and with the channels of branch j."""
        name, features = f"fuse_{i + 1}_to_{j + 1}", self.width * 2**j
        if i > j:
            x = ConvNorm(features, 1, act=None, dtype=self.dtype, name=name)(x, train)
            return resize(x, branches[j].shape[1:3], align_corners=self.align_corners)
        for k in range(1, j - i + 1):
            last = k == j - i
            fields = {"act": None if last else nn.relu, "dtype": self.dtype, "name": f"{name}_conv{k}"}
            x = ConvNorm(features if last else x.shape[-1], 3, 2, **fields)(x, train)
        return x


class HRNet(Encoder):
    """HRNet features at stage strides 4, 8, 16 and 32, each a mixture of all four.

    `__call__(x, train)`: x float [B, H, W, C], H and W multiples of 32 -> {stride: [B, H/stride, W/stride,
    channels[stride]]}. The resolutions run side by side, none behind another, so no stride can be traded for a rate:
    `output_stride` is 32.

    Attributes:
      width: channels at stride 4, doubled with each stride.
      first_blocks: bottlenecks of the first stage, at stride 4 alone.
      first_width: channels of their 3x3 convolutions.
      modules: `ParallelBranches` of the stages with two, three and four resolutions.
      blocks: residual blocks of each branch of each module.
      stem_width: channels of the two strided 3x3 convolutions; 64 in every published network.
      align_corners: of the upsampling: true in the authors' segmentation code, false in mmsegmentation.
    """

    width: int = 48
    first_blocks: int = 4
    first_width: int = 64
    modules: tuple[int, int, int] = (1, 4, 3)
    blocks: int = 4
    stem_width: int = 64
    align_corners: bool = False

    @property
    def channels(self) -> dict[int, int]:
        return {4 * 2**i: self.width * 2**i for i in range(4)}

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[int, jax.Array]:
        if self.output_stride != 32:
            raise ModelError(f"output_stride={self.output_stride} is impossible for HRNet: use 32.")
        for i in (1, 2):
            x = ConvNorm(self.stem_width, 3, 2, dtype=self.dtype, name=f"stem{i}")(x, train)
        for j in range(self.first_blocks):
            x = Bottleneck(4 * self.first_width, dtype=self.dtype, name=f"stage1_block{j + 1}")(x, train)
        branches = [x]
        for stage, modules in enumerate(self.modules, start=2):
            branches = self._widened(branches, stage, train)
            for m in range(modules):
                module = ParallelBranches(
                    self.width, self.blocks, self.align_corners, self.dtype, name=f"stage{stage}_module{m + 1}"
                )
                branches = module(branches, train)
        return dict(zip(self.channels, branches, strict=True))

    def _widened(self, branches: list[jax.Array], stage: int, train: bool) -> list[jax.Array]:
        """The branches of the stage before, and a new one of half the last one's resolution."""
        old = [
            x
            if x.shape[-1] == self.width * 2**i
            else ConvNorm(self.width * 2**i, dtype=self.dtype, name=f"transition{stage}_branch{i + 1}")(x, train)
            for i, x in enumerate(branches)
        ]
        count = len(branches)
        new = ConvNorm(self.width * 2**count, 3, 2, dtype=self.dtype, name=f"transition{stage}_branch{count + 1}")
        return [*old, new(branches[-1], train)]


VARIANTS = {
    "hrnet_w18_small": dict(width=16, first_blocks=1, first_width=32, modules=(1, 1, 1), blocks=2),
    "hrnet_w18_small_v2": dict(width=18, first_blocks=2, modules=(1, 3, 2), blocks=2),
    "hrnet_w18": dict(width=18),
    "hrnet_w32": dict(width=32),
    "hrnet_w48": dict(),
    "hrnet_test": dict(width=4, first_blocks=1, first_width=4, modules=(1, 1, 1), blocks=1, stem_width=4),
}

ENCODER = HRNet
