"""SegFormer on CamVid, 11 classes, 480x360, from scratch; the optimiser of Xie et al. 2021 (arXiv:2105.15203), section
4.1: AdamW, learning rate 6e-5 (the authors' for pretrained encoders; ten times that here), poly decay of power 1.

    segjax train --config=configs/camvid/segformer.py --config.data.root=CAMVID        # accelerator
    segjax train --config=configs/camvid/segformer.py:cpu --config.data.root=CAMVID    # two CPU cores, half size

Not run yet.
"""

from ml_collections import ConfigDict


def get_config(arg=""):
    config = ConfigDict()
    config.name = "camvid-segformer"
    config.model = dict(name="segformer/b0")
    config.data = dict(name="camvid", crop_size=(352, 480), cache_decoded=True)
    config.augment = dict(scale=(0.5, 2.0), brightness=0.2, contrast=0.2, saturation=0.2)
    config.optim = dict(name="adamw", learning_rate=6e-4, weight_decay=0.01)
    config.schedule = dict(name="poly", power=1.0, warmup_steps=1500)
    config.train = dict(epochs=300, batch_size=16, dtype="bfloat16", ema=0.999, eval_every=460)
    config.eval = dict(split="val", final_split="test", batch_size=8)
    if arg == "cpu":
        config.name += "-cpu"
        config.data.crop_size = (128, 160)
        config.augment.scale = (0.35, 0.6)
        config.loss = dict(class_weights="median_frequency")
        config.schedule.warmup_steps = 100
        config.train = dict(epochs=6, batch_size=8, ema=0.98, eval_every=500, log_every=50)
        config.eval.scales = (0.5,)
    return config
