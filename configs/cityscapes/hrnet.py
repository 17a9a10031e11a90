"""HRNet-W48 on Cityscapes, 19 classes, 2048x1024.

The recipe of Wang et al. (arXiv:1908.07919, section 5): SGD, rate 0.01, weight decay 5e-4, poly 0.9, 12 images a step,
120,000 steps, zoom 0.5 to 2, from ImageNet's weights. The paper's score (table 3), Cityscapes val: 81.1 mean IoU.

    segjax train --config=configs/cityscapes/hrnet.py --config.data.root=CITYSCAPES

CITYSCAPES is a folder as docs/data.md describes it: the label pictures are those of the 19 training ids.
Not run here: there is no score of ours.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.name = "cityscapes-hrnet"
    config.model = dict(name="hrnet/w48")
    config.data = dict(name="folder", crop_size=(512, 1024))
    config.augment = dict(scale=(0.5, 2.0))
    config.optim = dict(name="sgd", learning_rate=0.01, momentum=0.9, weight_decay=5e-4)
    config.schedule = dict(name="poly", power=0.9)
    config.train = dict(steps=120_000, batch_size=12, dtype="bfloat16", eval_every=12_000)
    config.eval = dict(batch_size=4)
    return config
