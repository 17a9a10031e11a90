"""Quickstart: a small U-Net on our own procedural street scenes, 11 classes; nothing to download.

segjax train --config=configs/quickstart.py
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.name = "quickstart"
    config.model = dict(name="unet/small")
    config.data = dict(name="scenes", crop_size=(96, 128), cache_decoded=True, options=dict(count=1000))
    config.augment = dict(scale=(0.75, 1.25), brightness=0.2, contrast=0.2)
    config.loss = dict(class_weights="enet_log")
    config.optim = dict(name="adamw", learning_rate=3e-3, weight_decay=1e-3)
    config.schedule = dict(name="cosine", warmup_steps=30)
    config.train = dict(steps=600, batch_size=8, ema=0.98, eval_every=300)
    config.eval = dict(split="val", final_split="test")
    return config
