"""SegNet on CamVid, 11 classes, 480x360, from scratch; Badrinarayanan et al. 2017 (arXiv:1511.00561), section 3.2:
SGD with momentum 0.9 and a fixed rate of 0.1, batches of 12, median-frequency weights.

    segjax train --config=configs/camvid/segnet.py --config.data.root=CAMVID        # accelerator
    segjax train --config=configs/camvid/segnet.py:cpu --config.data.root=CAMVID    # two CPU cores, half size

No score has been measured yet: there was no accelerator, and VGG-16 and its mirror are slow on two CPU cores.
"""

from ml_collections import ConfigDict


def get_config(arg=""):
    config = ConfigDict()
    config.name = "camvid-segnet"
    config.model = dict(name="segnet/vgg16")
    config.data = dict(name="camvid", crop_size=(360, 480), cache_decoded=True)
    config.loss = dict(class_weights="median_frequency")
    config.optim = dict(name="sgd", learning_rate=0.1, momentum=0.9, weight_decay=5e-4)
    config.schedule = dict(name="constant")
    config.train = dict(epochs=300, batch_size=12, dtype="bfloat16", eval_every=600)
    config.eval = dict(split="val", final_split="test", batch_size=12)
    if arg == "cpu":
        config.name += "-cpu"
        config.data.crop_size = (96, 128)
        config.augment = dict(scale=(0.35, 0.6))
        config.optim = dict(name="adamw", learning_rate=1e-3, weight_decay=1e-3)
        config.schedule = dict(name="poly", warmup_steps=50)
        config.train = dict(epochs=15, batch_size=4, ema=0.995, eval_every=1000, log_every=50)
        config.eval.update(batch_size=4, scales=(0.5,))
    return config
