"""ENet on CamVid, 11 classes, 480x360, from scratch; after Paszke et al. 2016 (arXiv:1606.02147), section 5.2.

segjax train --config=configs/camvid/enet.py --config.data.root=CAMVID        # accelerator
segjax train --config=configs/camvid/enet.py:cpu --config.data.root=CAMVID    # two CPU cores
"""

from ml_collections import ConfigDict


def get_config(arg=""):
    config = ConfigDict()
    config.name = "camvid-enet"
    config.model = dict(name="enet/paper")
    config.data = dict(name="camvid", crop_size=(360, 480), cache_decoded=True)
    config.augment = dict(scale=(0.75, 1.5), brightness=0.2, contrast=0.2, saturation=0.2)
    config.loss = dict(class_weights="enet_log")
    config.optim = dict(name="adamw", learning_rate=2e-3, weight_decay=2e-4)
    config.schedule = dict(name="poly", warmup_steps=200)
    config.train = dict(epochs=300, batch_size=16, dtype="bfloat16", ema=0.999, eval_every=460)
    config.eval = dict(split="val", final_split="test", batch_size=4)
    if arg == "cpu":
        config.name += "-cpu"
        config.data.crop_size = (256, 320)
        config.augment.scale = (0.6, 1.2)
        config.optim.learning_rate = 1.5e-3
        config.train = dict(epochs=80, batch_size=4, ema=0.999, eval_every=1000, log_every=50)
    return config
