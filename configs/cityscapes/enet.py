"""ENet on Cityscapes, 19 classes, 2048x1024.

The recipe of e-lab/ENet-training, by the authors of Paszke et al. 2016 (arXiv:1606.02147): Adam, rate 5e-4, a tenth of
it after every 100 of 300 passes, weight decay 2e-4 (decoupled here), 10 images a step, half the resolution; logarithmic
class weights. The authors train the encoder first; here the whole network at once.

    segjax train --config=configs/cityscapes/enet.py --config.data.root=CITYSCAPES

CITYSCAPES is a folder as docs/data.md describes it: the label pictures are those of the 19 training ids.
Not run here: there is no score of ours.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.name = "cityscapes-enet"
    config.model = dict(name="enet/paper")
    config.data = dict(name="folder", crop_size=(512, 1024))
    config.augment = dict(scale=(0.5, 0.5))
    config.loss = dict(class_weights="enet_log")
    config.optim = dict(name="adamw", learning_rate=5e-4, weight_decay=2e-4)
    config.schedule = dict(name="step", boundaries=(0.33, 0.66))
    config.train = dict(epochs=300, batch_size=10, dtype="bfloat16")
    config.eval = dict(batch_size=4, scales=(0.5,))
    return config
