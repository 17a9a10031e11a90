"""FCN-8s on Pascal VOC 2012, 21 classes.

The recipe of Long et al. 2015 (arXiv:1411.4038, sections 4.1 and 4.3): SGD, a fixed rate of 1e-4, momentum 0.9, 20
images a step, 175 passes, from VGG16's weights on ImageNet; weight decay 5e-4 as in the authors' solvers. Mirroring is
ours. Crops are 512x512, which hold every image, padded. The authors' FCN-8s at once scores 65.4 mean IoU on seg11valid,
what of VOC 2011 val SBD does not train on (shelhamer/fcn.berkeleyvision.org, there one image a step at momentum 0.99).

    segjax train --config=configs/voc/fcn.py --config.data.root=VOC

VOC is a folder as docs/data.md describes it, its split `train` the 10,582 images with the labels of SBD.
Not run here: there is no score of ours.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.name = "voc-fcn"
    config.model = dict(name="fcn/8s-atonce")
    config.data = dict(name="folder", crop_size=(512, 512))
    config.optim = dict(name="sgd", learning_rate=1e-4, momentum=0.9, weight_decay=5e-4)
    config.schedule = dict(name="constant")
    config.train = dict(epochs=175, batch_size=20, dtype="bfloat16")
    config.eval = dict(batch_size=4)
    return config
