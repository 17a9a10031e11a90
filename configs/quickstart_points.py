"""Quickstart of the task `points`: a small PointNet on our own procedural furniture, 10 parts; nothing to download.

    segjax train --config=configs/quickstart_points.py

Clouds have up to 1,024 points, of which a step sees 512; evaluation sees all. Mean IoU over the 100 test clouds: 0.960
(benchmarks/results/quickstart_points.json).
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.name = "quickstart_points"
    config.task = "points"
    config.model = dict(name="pointnet/small")
    config.data = dict(name="clouds", cache_decoded=True)
    config.data.options = dict(points=1024, count=1000)
    config.augment = dict(count=512, rotate=False, scale=(0.8, 1.25), shift=0.1)
    config.optim = dict(learning_rate=2e-3)
    config.schedule = dict(name="cosine", warmup_steps=30)
    config.train = dict(steps=300, batch_size=16, eval_every=150)
    config.eval = dict(split="val", final_split="test")
    return config
