"""U-Net++ with deep supervision on CamVid, 11 classes, 480x360, from scratch; the paper (Zhou et al. 2018,
arXiv:1807.10165) has no CamVid run.

    segjax train --config=configs/camvid/unetpp.py --config.data.root=CAMVID        # accelerator
    segjax train --config=configs/camvid/unetpp.py:cpu --config.data.root=CAMVID    # two CPU cores, half size

Not run yet.
"""

from ml_collections import ConfigDict


def get_config(arg=""):
    config = ConfigDict()
    config.name = "camvid-unetpp"
    config.model = dict(name="unetpp/supervised")
    config.data = dict(name="camvid", crop_size=(352, 480), cache_decoded=True)
    config.augment = dict(scale=(0.75, 1.5), brightness=0.2, contrast=0.2, saturation=0.2)
    config.loss = dict(class_weights="median_frequency")
    config.optim = dict(name="adamw", learning_rate=3e-4, weight_decay=1e-3)
    config.schedule = dict(name="poly", warmup_steps=200)
    config.train = dict(epochs=200, batch_size=16, dtype="bfloat16", ema=0.999, eval_every=460)
    config.eval = dict(split="val", final_split="test", batch_size=8)
    if arg == "cpu":
        config.name += "-cpu"
        config.model.options = dict(widths=(16, 32, 64, 128))
        config.data.crop_size = (128, 160)
        config.augment.scale = (0.35, 0.6)
        config.optim.learning_rate = 1e-3
        config.train = dict(epochs=6, batch_size=4, ema=0.98, eval_every=500, log_every=50)
        config.eval.scales = (0.5,)
    return config
