"""DeepLab v3 on CamVid, 11 classes, 480x360, from scratch; poly 0.9 and random scales 0.5 to 2 as in Chen et al. 2017
(arXiv:1706.05587), section 4.1; SGD with momentum 0.9.

    segjax train --config=configs/camvid/deeplabv3.py --config.data.root=CAMVID

No score has been measured yet.
"""

from ml_collections import ConfigDict


def get_config(arg=""):
    del arg
    config = ConfigDict()
    config.name = "camvid-deeplabv3"
    config.model = dict(name="deeplabv3/resnet50")
    config.data = dict(name="camvid", crop_size=(352, 480), cache_decoded=True)
    config.augment = dict(scale=(0.5, 2.0))
    config.optim = dict(name="sgd", learning_rate=0.01, momentum=0.9, weight_decay=1e-4)
    config.schedule = dict(name="poly", warmup_steps=200)
    config.train = dict(epochs=300, batch_size=16, dtype="bfloat16", eval_every=460)
    config.eval = dict(split="val", final_split="test", batch_size=8)
    return config
