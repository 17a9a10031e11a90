"""ESPNet on CamVid, 11 classes, 480x360, from scratch; Adam with weight decay 5e-4 (decoupled here) as in
sacmehta/ESPNet (Mehta et al. 2018, arXiv:1803.06815), at 1e-3 instead of 5e-4 and with poly instead of steps.

    segjax train --config=configs/camvid/espnet.py --config.data.root=CAMVID

The authors train the encoder first; here the whole network at once. This recipe has not been run.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.name = "camvid-espnet"
    config.model = dict(name="espnet/p2-q8")
    config.data = dict(name="camvid", crop_size=(360, 480), cache_decoded=True)
    config.augment = dict(scale=(0.75, 1.5), brightness=0.2, contrast=0.2, saturation=0.2)
    config.loss = dict(class_weights="enet_log")
    config.optim = dict(name="adamw", learning_rate=1e-3, weight_decay=5e-4)
    config.schedule = dict(name="poly", warmup_steps=200)
    config.train = dict(epochs=300, batch_size=12, dtype="bfloat16", ema=0.999, eval_every=600)
    config.eval = dict(split="val", final_split="test", batch_size=4)
    return config
