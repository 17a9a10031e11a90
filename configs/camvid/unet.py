"""U-Net with padded convolutions on CamVid, 11 classes, 480x360, from scratch; the paper has no CamVid run.

    segjax train --config=configs/camvid/unet.py --config.data.root=CAMVID        # accelerator
    segjax train --config=configs/camvid/unet.py:cpu --config.data.root=CAMVID    # two CPU cores, half size

mIoU on the test split, void ignored, at half size: 0.411 for the :cpu twin after 15
epochs (benchmarks/results/camvid_unet_cpu.json). The accelerator's recipe has not been run.
"""

from ml_collections import ConfigDict


def get_config(arg=""):
    config = ConfigDict()
    config.name = "camvid-unet"
    config.model = dict(name="unet/same")
    config.data = dict(name="camvid", crop_size=(352, 480), cache_decoded=True)
    config.augment = dict(scale=(0.75, 1.5), brightness=0.2, contrast=0.2, saturation=0.2)
    config.loss = dict(class_weights="median_frequency")
    config.optim = dict(name="adamw", learning_rate=1e-3, weight_decay=1e-3)
    config.schedule = dict(name="poly", warmup_steps=200)
    config.train = dict(epochs=200, batch_size=16, dtype="bfloat16", ema=0.999, eval_every=460)
    config.eval = dict(split="val", final_split="test", batch_size=8)
    if arg == "cpu":
        config.name += "-cpu"
        config.model = dict(name="unet/small")
        config.data.crop_size = (128, 160)
        config.augment.scale = (0.35, 0.6)
        config.optim = dict(name="muon", learning_rate=2e-2, momentum=0.95, nesterov=True, b2=0.95, weight_decay=1e-3)
        config.train = dict(epochs=15, batch_size=4, ema=0.99, eval_every=1400, log_every=50)
        config.eval.scales = (0.5,)
    return config
