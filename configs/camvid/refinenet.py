"""RefineNet, light weight, on CamVid, 11 classes, 480x360, from scratch; SGD at 5e-3 with momentum 0.9 and
weight decay 1e-5 as the decoder in DrSleep/light-weight-refinenet (Nekrasov et al. 2018, arXiv:1810.03272); poly here.

    segjax train --config=configs/camvid/refinenet.py --config.data.root=CAMVID        # accelerator
    segjax train --config=configs/camvid/refinenet.py:cpu --config.data.root=CAMVID    # two CPU cores, half size

Neither recipe has been run.
"""

from ml_collections import ConfigDict


def get_config(arg=""):
    config = ConfigDict()
    config.name = "camvid-refinenet"
    config.model = dict(name="refinenet/lw-resnet50")
    config.data = dict(name="camvid", crop_size=(352, 480), cache_decoded=True)
    config.augment = dict(scale=(0.5, 2.0), brightness=0.2, contrast=0.2, saturation=0.2)
    config.optim = dict(name="sgd", learning_rate=5e-3, momentum=0.9, weight_decay=1e-5)
    config.schedule = dict(name="poly", warmup_steps=200)
    config.train = dict(epochs=300, batch_size=16, dtype="bfloat16", ema=0.999, eval_every=460)
    config.eval = dict(split="val", final_split="test", batch_size=8)
    if arg == "cpu":
        config.name += "-cpu"
        config.data.crop_size = (128, 160)
        config.augment.scale = (0.35, 0.6)
        config.loss = dict(class_weights="median_frequency")
        config.optim = dict(name="adamw", learning_rate=1e-3, weight_decay=1e-3)
        config.train = dict(epochs=6, batch_size=8, ema=0.98, eval_every=500, log_every=50)
        config.eval.scales = (0.5,)
    return config
