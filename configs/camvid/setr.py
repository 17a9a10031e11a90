"""SETR with the naive decoder on ViT-B/16, CamVid, 11 classes, 480x360; the optimiser of Zheng et al. 2021
(arXiv:2012.15840), section 4.1: SGD with momentum 0.9 and poly 0.9; auxiliary heads of weight 0.4 (fudan-zvg/SETR). The
paper starts from ImageNet weights; so few images do not train a vision transformer from scratch: give some by
--config.init.

    segjax train --config=configs/camvid/setr.py --config.data.root=CAMVID        # accelerator
    segjax train --config=configs/camvid/setr.py:cpu --config.data.root=CAMVID    # two CPU cores, half size

Not run yet.
"""

from ml_collections import ConfigDict


def get_config(arg=""):
    config = ConfigDict()
    config.name = "camvid-setr"
    config.model = dict(name="setr/naive-base", options=dict(encoder_options=dict(grid=24)))
    config.data = dict(name="camvid", crop_size=(352, 480), cache_decoded=True)
    config.augment = dict(scale=(0.5, 2.0), brightness=0.2, contrast=0.2, saturation=0.2)
    config.optim = dict(name="sgd", learning_rate=0.01, momentum=0.9)
    config.schedule = dict(name="poly", warmup_steps=200)
    config.train = dict(epochs=300, batch_size=8, dtype="bfloat16", ema=0.999, eval_every=920)
    config.eval = dict(split="val", final_split="test", batch_size=8)
    if arg == "cpu":
        config.name += "-cpu"
        config.data.crop_size = (128, 160)
        config.augment.scale = (0.35, 0.6)
        config.train = dict(epochs=6, batch_size=4, ema=0.98, eval_every=500, log_every=50)
        config.eval.scales = (0.5,)
    return config
