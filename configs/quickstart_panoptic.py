"""Quickstart of panoptic segmentation: our own procedural street scenes by day, every pixel a thing or stuff.

    segjax train --config=configs/quickstart_panoptic.py

Nothing to download. Seven classes of stuff, and four of things, signs, vehicles, persons and cyclists, of which each is
a segment of its own.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.name = "quickstart_panoptic"
    config.task = "panoptic"
    config.data = dict(name="scenes", crop_size=(96, 128), cache_decoded=True)
    config.data.options = dict(annotations=("instance",), height=96, width=128, zoom=1.5, time="day")
    config.data.options.update(count=1000, max_instances=20)
    config.model = dict(name="panopticdeeplab/mobilenetv2")
    config.loss = dict(sigma=2.0, small_area=200)
    config.optim = dict(name="adamw", learning_rate=1e-3)
    config.schedule = dict(name="cosine", warmup_steps=100)
    config.train = dict(steps=1500, batch_size=8)
    config.eval = dict(split="val", final_split="test", stuff_area=50, peak_window=3)
    return config
