"""DFN on CamVid, 11 classes, 480x360, from scratch; the losses of Yu et al. 2018 (arXiv:1804.09337), every stage of the
smooth network at weight 1 and the border network's at 0.1, with SGD, momentum 0.9 and poly 0.9.

    segjax train --config=configs/camvid/dfn.py --config.data.root=CAMVID

No score has been measured yet.
"""

from ml_collections import ConfigDict


def get_config(arg=""):
    del arg
    config = ConfigDict()
    config.name = "camvid-dfn"
    config.model = dict(name="dfn/resnet101")
    config.data = dict(name="camvid", crop_size=(352, 480), cache_decoded=True)
    config.augment = dict(scale=(0.5, 2.0))
    config.loss = dict(aux_weight=1.0, border_weight=0.1)
    config.optim = dict(name="sgd", learning_rate=0.01, momentum=0.9, weight_decay=1e-4)
    config.schedule = dict(name="poly", warmup_steps=200)
    config.train = dict(epochs=300, batch_size=16, dtype="bfloat16", eval_every=460)
    config.eval = dict(split="val", final_split="test", batch_size=8)
    return config
