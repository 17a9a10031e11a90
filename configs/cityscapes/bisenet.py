"""BiSeNet on ResNet-18 on Cityscapes, 19 classes, 2048x1024.

SGD, rate 0.025, weight decay 1e-4, poly 0.9, 16 images a step and zoom 0.75 to 2 as in Yu et al. 2018
(arXiv:1808.00897, section 4.1); crops of 1024x1024, 80,000 steps and the mining of hard pixels as in ycszen/TorchSeg,
by the first author, whose rate is 0.01 and weight decay 5e-4. From ImageNet's weights. TorchSeg's score, Cityscapes
val, one scale: 76.28 mean IoU; the paper's, test, images of 1536x768: 74.7.

    segjax train --config=configs/cityscapes/bisenet.py --config.data.root=CITYSCAPES

CITYSCAPES is a folder as docs/data.md describes it: the label pictures are those of the 19 training ids.
Not run here: there is no score of ours.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.name = "cityscapes-bisenet"
    config.model = dict(name="bisenet/resnet18")
    config.data = dict(name="folder", crop_size=(1024, 1024))
    config.augment = dict(scale=(0.75, 2.0))
    config.loss = dict(name="ohem", options=dict(threshold=0.7, share=1 / 16), aux_weight=1.0)
    config.optim = dict(name="sgd", learning_rate=0.025, momentum=0.9, weight_decay=1e-4)
    config.schedule = dict(name="poly", power=0.9)
    config.train = dict(steps=80_000, batch_size=16, dtype="bfloat16", eval_every=8_000)
    config.eval = dict(batch_size=4)
    return config
