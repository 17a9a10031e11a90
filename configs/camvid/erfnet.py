"""ERFNet on CamVid, 11 classes, 480x360, from scratch; Adam at 5e-4 with weight decay 1e-4 (decoupled here) and poly
0.9 as in Eromera/erfnet_pytorch.

    segjax train --config=configs/camvid/erfnet.py --config.data.root=CAMVID

The authors train the encoder first; here the whole network at once. This recipe has not been run.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.name = "camvid-erfnet"
    config.model = dict(name="erfnet/erfnet")
    config.data = dict(name="camvid", crop_size=(360, 480), cache_decoded=True)
    config.augment = dict(scale=(0.75, 1.5), brightness=0.2, contrast=0.2, saturation=0.2)
    config.loss = dict(class_weights="enet_log")
    config.optim = dict(name="adamw", learning_rate=5e-4, weight_decay=1e-4)
    config.schedule = dict(name="poly", warmup_steps=200)
    config.train = dict(epochs=300, batch_size=12, dtype="bfloat16", ema=0.999, eval_every=600)
    config.eval = dict(split="val", final_split="test", batch_size=4)
    return config
