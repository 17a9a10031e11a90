"""SETR-PUP on Cityscapes, 19 classes, 2048x1024.

The recipe of Zheng et al. 2021 (arXiv:2012.15840, section 4.1, and fudan-zvg/SETR): SGD, rate 0.01 falling to 1e-4, ten
times that in decoder and auxiliary heads, no weight decay, poly 0.9, 8 images a step, 80,000 steps, zoom 0.5 to 2,
windows of 768x768 in evaluation, from ImageNet-21k's weights. The paper's score (table 2), Cityscapes val, one scale:
79.34 mean IoU.

    segjax train --config=configs/cityscapes/setr.py --config.data.root=CITYSCAPES

CITYSCAPES is a folder as docs/data.md describes it: the label pictures are those of the 19 training ids.
Not run here: there is no score of ours.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.name = "cityscapes-setr"
    config.model = dict(name="setr/pup")
    config.data = dict(name="folder", crop_size=(768, 768))
    config.augment = dict(scale=(0.5, 2.0), brightness=0.125, contrast=0.5, saturation=0.5, hue=0.05)
    config.optim = dict(
        name="sgd", learning_rate=0.01, momentum=0.9, weight_decay=0.0, multipliers={"^(?!encoder/)": 10.0}
    )
    config.schedule = dict(name="poly", power=0.9, end=0.01)
    config.train = dict(steps=80_000, batch_size=8, dtype="bfloat16", eval_every=8_000)
    config.eval = dict(batch_size=4, window=(768, 768), overlap=0.33)
    return config
