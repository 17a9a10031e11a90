"""DFN on Pascal VOC 2012, 21 classes.

The recipe of TorchSeg, the first author's (ycszen/TorchSeg, voc.dfn.R101_v1c/config.py): SGD, momentum 0.9, rate 8e-4
and ten times that past the encoder, weight decay 1e-5, poly 0.9, 32 images a step, 120 passes, zoom 0.5 to 2, crops of
512x512, from ImageNet's weights, windows of the same size. Its score, VOC 2012 val, one scale: 79.40 mean IoU.

    segjax train --config=configs/voc/dfn.py --config.data.root=VOC

VOC is a folder as docs/data.md describes it, its split `train` the 10,582 images with the labels of SBD.
Not run here: there is no score of ours.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.name = "voc-dfn"
    config.model = dict(name="dfn/resnet101")
    config.data = dict(name="folder", crop_size=(512, 512))
    config.augment = dict(scale=(0.5, 2.0))
    config.loss = dict(aux_weight=1.0, border_weight=0.1)
    config.optim = dict(
        name="sgd", learning_rate=8e-4, momentum=0.9, weight_decay=1e-5, multipliers={"^(?!encoder/)": 10.0}
    )
    config.schedule = dict(name="poly", power=0.9)
    config.train = dict(epochs=120, batch_size=32, dtype="bfloat16")
    config.eval = dict(batch_size=4, window=(512, 512), overlap=0.33)
    return config
