"""PSPNet on Cityscapes, 19 classes, 2048x1024.

The recipe of mmsegmentation: SGD, rate 0.01 falling to 1e-4, 8 images a step, 80,000 steps, zoom 0.5 to 2, from
ImageNet's weights. Its score (configs/pspnet/README.md), Cityscapes val, one scale: 78.55 mean IoU.

    segjax train --config=configs/cityscapes/pspnet.py --config.data.root=CITYSCAPES

CITYSCAPES is a folder as docs/data.md describes it: the label pictures are those of the 19 training ids.
Not run here: there is no score of ours.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.name = "cityscapes-pspnet"
    config.model = dict(name="pspnet/resnet50-mmseg")
    config.data = dict(name="folder", crop_size=(512, 1024))
    config.augment = dict(scale=(0.5, 2.0), brightness=0.125, contrast=0.5, saturation=0.5, hue=0.05)
    config.optim = dict(name="sgd", learning_rate=0.01, momentum=0.9, weight_decay=5e-4)
    config.schedule = dict(name="poly", power=0.9, end=0.01)
    config.train = dict(steps=80_000, batch_size=8, dtype="bfloat16", eval_every=8_000)
    config.eval = dict(batch_size=4)
    return config
