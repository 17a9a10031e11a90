"""DeepLab v3+ on Pascal VOC 2012, 21 classes.

The recipe of Chen et al. 2018 (arXiv:1802.02611, section 4), which is that of DeepLab v3 (arXiv:1706.05587, section
4.1): rate 0.007, poly 0.9, 16 images a step, 30,000 steps, zoom 0.5 to 2, output stride 16, from ImageNet's weights.
Momentum 0.9 and weight decay 1e-4 are ours. Crops are 512x512, a multiple of the stride, where the paper has 513x513.
The paper's score with ResNet-101, VOC 2012 val, one scale: 78.85 mean IoU.

    segjax train --config=configs/voc/deeplabv3plus.py --config.data.root=VOC

VOC is a folder as docs/data.md describes it, its split `train` the 10,582 images with the labels of SBD.
Not run here: there is no score of ours.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.name = "voc-deeplabv3plus"
    config.model = dict(name="deeplabv3plus/resnet101")
    config.data = dict(name="folder", crop_size=(512, 512))
    config.augment = dict(scale=(0.5, 2.0))
    config.optim = dict(name="sgd", learning_rate=0.007, momentum=0.9, weight_decay=1e-4)
    config.schedule = dict(name="poly", power=0.9)
    config.train = dict(steps=30_000, batch_size=16, dtype="bfloat16", eval_every=3_000)
    config.eval = dict(batch_size=4)
    return config
