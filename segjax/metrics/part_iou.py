"""IoU of the parts of shapes, as the ShapeNet part benchmark has it.

Yi et al. A Scalable Active Framework for Region Annotation in 3D Shape Collections. SIGGRAPH Asia 2016; the rules are
those of charlesq34/pointnet, part_seg/test.py. Published means are over shapes ("instance") or over categories.

Shape legend: B batch, P points, C categories of shapes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import chex
import jax
import jax.numpy as jnp
import numpy as np

from segjax.metrics.base import Batch, State, add
from segjax.metrics.confusion import mean_of_known
from segjax.metrics.ratio import PARTS, joined, split_ratio


@dataclasses.dataclass(frozen=True)
class PartIoU:
    """IoU of the parts of a shape's category, the mean over these parts; a `Metric`.

    A part that is in neither truth nor prediction of a shape has IoU 1. Predictions: `label` int32 [B, P], parts of
    any category; one of another category is wrong. Batch: `part` int [B, P], `category` int32 [B], `point_valid` bool
    [B, P], `valid` bool [B]. Points whose true part is not of the shape's category, such as 255, do not count.

    The state is sums: `shapes` int [C] and `iou` int [C, 3], over shapes and their parts, quotients as
    `ratio.split_ratio` divides them.

    Attributes:
      parts: the part ids of each category, C tuples.
    """

    parts: tuple[tuple[int, ...], ...]

    def init(self) -> State:
        """Zeros."""
        return {"shapes": np.zeros(len(self.parts), np.int64), "iou": np.zeros((len(self.parts), PARTS), np.int64)}

    def update(self, predictions: Mapping[str, jax.Array], batch: Batch) -> State:
        """Sums over one batch, int32; see `Metric.update`."""
        guess, true, category = predictions["label"], batch["part"].astype(jnp.int32), batch["category"]
        chex.assert_equal_shape([guess, true, batch["point_valid"]])
        most = max(len(parts) for parts in self.parts)
        table = np.full((len(self.parts), most), -1)
        for row, parts in zip(table, self.parts):
            row[: len(parts)] = parts
        counted = batch["valid"] & (category >= 0) & (category < len(self.parts))
        own = jnp.asarray(table)[jnp.where(counted, category, 0)]  # [B, most]
        exists = own >= 0
        is_true, is_guess = ((x[:, None] == own[:, :, None]) & exists[..., None] for x in (true, guess))
        point = batch["point_valid"] & is_true.any(axis=1)
        both, either = (
            (x & point[:, None]).sum(axis=-1, dtype=jnp.int32) for x in (is_true & is_guess, is_true | is_guess)
        )
        absent = either == 0
        iou = split_ratio(jnp.where(absent, 1, both), jnp.where(absent, 1, either))
        iou = jnp.where((exists & counted[:, None])[..., None], iou, 0).sum(axis=1)
        index = jnp.where(counted, category, len(self.parts))
        return {
            "shapes": jnp.zeros(len(self.parts), jnp.int32).at[index].add(1, mode="drop"),
            "iou": jnp.zeros((len(self.parts), PARTS), jnp.int32).at[index].add(iou, mode="drop"),
        }

    def merge(self, a: State, b: State) -> State:
        """The sum of two states."""
        return add(a, b)

    def result(self, state: State) -> dict[str, float | list]:
        """Scores; a category without a shape is NaN and in no mean.

        Returns:
          `instance_miou`, the mean over shapes; `category_miou`, the mean over categories of the mean over their
          shapes; `per_category_miou`, C values.
        """
        shapes = np.asarray(state["shapes"], np.float64)
        total = joined(state["iou"]) / [len(parts) for parts in self.parts]
        per_category = np.divide(total, shapes, out=np.full(len(self.parts), np.nan), where=shapes > 0)
        return {
            "instance_miou": float(total.sum() / shapes.sum()) if shapes.any() else float("nan"),
            "category_miou": mean_of_known(per_category),
            "per_category_miou": per_category.tolist(),
        }
