"""ENet on CamVid, 11 classes, 480x360, from scratch; the class weights of Paszke et al. 2016 (arXiv:1606.02147).

    segjax train --config=configs/camvid/enet.py --config.data.root=CAMVID        # accelerator
    segjax train --config=configs/camvid/enet.py:cpu --config.data.root=CAMVID    # two CPU cores

mIoU on the test split at 480x360, void ignored, one scale: 0.518 for the :cpu twin, in 36 minutes
(benchmarks/results/camvid_enet_cpu.json). The accelerator's recipe has not been run.
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
        config.optim = dict(name="muon", learning_rate=2e-2, momentum=0.95, nesterov=True, b2=0.95, weight_decay=1e-3)
        config.train = dict(epochs=25, batch_size=4, ema=0.99, eval_every=570, log_every=50)
    return config
