"""UPerNet on ADE20K, 150 classes.

The recipe of mmsegmentation: SGD, rate 0.01 falling to 1e-4, 16 images a step, 160,000 steps, zoom 0.5 to 2 (there of
images brought to a short side of 512, here of the images as they are), from ImageNet's weights. Its score
(configs/upernet/README.md), ADE20K val, one scale: 42.05 mean IoU.

    segjax train --config=configs/ade20k/upernet.py --config.data.root=ADE20K

ADE20K is a folder as docs/data.md describes it: label k - 1 for the benchmark's class k, 255 for its 0.
Not run here: there is no score of ours.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.name = "ade20k-upernet"
    config.model = dict(name="upernet/resnet50-mmseg")
    config.data = dict(name="folder", crop_size=(512, 512))
    config.augment = dict(scale=(0.5, 2.0), brightness=0.125, contrast=0.5, saturation=0.5, hue=0.05)
    config.optim = dict(name="sgd", learning_rate=0.01, momentum=0.9, weight_decay=5e-4)
    config.schedule = dict(name="poly", power=0.9, end=0.01)
    config.train = dict(steps=160_000, batch_size=16, dtype="bfloat16", eval_every=16_000)
    config.eval = dict(batch_size=4)
    return config
