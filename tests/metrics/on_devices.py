"""States of metrics on four simulated devices, run in a process of its own by test_on_devices.py."""

from __future__ import annotations

import sys
from pathlib import Path

import jax

jax.config.update("jax_num_cpu_devices", 4)

import chex  # noqa: E402
import numpy as np  # noqa: E402
from jax.sharding import AxisType, NamedSharding, PartitionSpec  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))

from coco_batches import single_images  # noqa: E402
from random_instances import CLASSES, instances  # noqa: E402

from segjax.metrics.average_precision import AveragePrecision  # noqa: E402
from segjax.metrics.panoptic_quality import PanopticQuality  # noqa: E402

K = len(CLASSES)
mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
split, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())

singles = list(single_images(*instances(1, images=8, most=12), (160, 160), slots=12, layers=12, found=12))
predictions, batch = (jax.tree.map(lambda *x: np.concatenate(x), *parts) for parts in zip(*singles))
batch["label"] = (np.indices((8, 160, 160)).sum(axis=0) // 60 % K).astype(np.uint8)
predictions |= {
    "segment": np.roll(batch["instance"][..., 0], 3, axis=2).astype(np.int32),
    "segment_class": batch["instance_class"],
    "segment_valid": batch["instance_valid"],
}
for metric in (AveragePrecision(K), AveragePrecision(K, kind="box"), PanopticQuality(K, things=(0, 1))):
    one = jax.jit(metric.update)(predictions, batch)
    many = jax.jit(metric.update, out_shardings=whole)(*jax.device_put((predictions, batch), split))
    chex.assert_trees_all_equal(jax.device_get(many), jax.device_get(one))
    assert all(len(x.sharding.device_set) == 4 for x in many.values())
    scores = [value for value in metric.result(metric.merge(metric.init(), many)).values() if isinstance(value, float)]
    assert np.nanmax(scores) > 0.2, scores
