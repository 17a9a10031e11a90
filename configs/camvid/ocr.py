"""OCRNet on CamVid, 11 classes, 480x360, from scratch; the optimiser of openseg.pytorch (Yuan et al. 2020,
arXiv:1909.11065): SGD with momentum 0.9, weight decay 5e-4, poly, random scales 0.5 to 2, the soft regions' loss
weighted 0.4.

    segjax train --config=configs/camvid/ocr.py --config.data.root=CAMVID        # accelerator
    segjax train --config=configs/camvid/ocr.py:cpu --config.data.root=CAMVID    # two CPU cores, half size

Neither recipe has been run.
"""

from ml_collections import ConfigDict


def get_config(arg=""):
    config = ConfigDict()
    config.name = "camvid-ocr"
    config.model = dict(name="ocr/hrnet-w18")
    config.data = dict(name="camvid", crop_size=(352, 480), cache_decoded=True)
    config.augment = dict(scale=(0.5, 2.0), brightness=0.2, contrast=0.2, saturation=0.2)
    config.optim = dict(name="sgd", learning_rate=0.01, momentum=0.9, weight_decay=5e-4)
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
