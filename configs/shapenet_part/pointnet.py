"""PointNet on ShapeNet part, the authors' network: 2,048 points, batches of 32, the recipe of charlesq34/pointnet.

    segjax train --config=configs/shapenet_part/pointnet.py --config.data.root=DIR
    segjax train --config=configs/shapenet_part/pointnet.py:caps --config.data.root=DIR

The paper's network has 83.7 mean IoU over shapes (table 2); this config has not been run on the whole set. `caps` is for a
folder of a few shapes of one category.
"""

from ml_collections import ConfigDict


def get_config(arg=""):
    config = ConfigDict()
    config.name = "shapenet_part_pointnet"
    config.task = "points"
    config.model = dict(name="pointnet/part")
    config.data = dict(name="shapenet_part", cache_decoded=arg == "caps")
    config.points = dict(count=2048, rotate=False, jitter=0.0)
    config.optim = dict(name="adamw", learning_rate=1e-3, weight_decay=0.0)
    config.schedule = dict(name="step", boundaries=tuple(k / 10 for k in range(1, 10)), factor=0.5)
    config.train = dict(epochs=200, batch_size=32)
    config.eval = dict(split="val", final_split="test", batch_size=16)
    config.checkpoint = dict(best="instance_miou")
    if arg == "caps":
        config.name = "shapenet_part_caps"
        config.model = dict(name="pointnet/small", options=dict(dropout=0.0))
        config.data.train_split = "val"
        config.points = dict(count=1024, rotate=True, scale=(0.8, 1.25), shift=0.05, jitter=0.01)
        config.schedule = dict(name="cosine", warmup_steps=20)
        config.train = dict(steps=400, batch_size=10, eval_every=400)
        config.eval.batch_size = 8
    return config
