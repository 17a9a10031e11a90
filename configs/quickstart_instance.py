"""Quickstart of instance segmentation: our own procedural street scenes by day, each thing by itself; no download.

    segjax train --config=configs/quickstart_instance.py

Four kinds of things: signs, vehicles, persons, cyclists; up to a dozen in an image of 96x128. `style="cells"` draws
cells with their parts instead.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.name = "quickstart_instance"
    config.task = "instance"
    config.data = dict(name="scenes", crop_size=(96, 128), cache_decoded=True)
    config.data.options = dict(annotations=("instance",), height=96, width=128, zoom=1.5, time="day")
    config.data.options.update(count=1000, max_instances=20)
    config.model = dict(name="maskrcnn/small")
    config.optim = dict(name="adamw", learning_rate=1e-3)
    config.schedule = dict(name="cosine", warmup_steps=100)
    config.train = dict(steps=1500, batch_size=8)
    config.eval = dict(split="val", final_split="test")
    return config
