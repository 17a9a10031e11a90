"""DeconvNet on CamVid, 11 classes, 480x360, from scratch; the optimiser of Noh et al. 2015 (arXiv:1505.04366): SGD
with momentum 0.9, weight decay 5e-4. Whole crops instead of their boxes and proposals.

    segjax train --config=configs/camvid/deconvnet.py --config.data.root=CAMVID        # accelerator

Not run yet: there is no score. The paper starts from VGG16 trained on ImageNet.
"""

from ml_collections import ConfigDict


def get_config(arg=""):
    config = ConfigDict()
    config.name = "camvid-deconvnet"
    config.model = dict(name="deconvnet/vgg16")
    config.data = dict(name="camvid", crop_size=(352, 480), cache_decoded=True)
    config.optim = dict(name="sgd", learning_rate=1e-2, momentum=0.9, weight_decay=5e-4)
    config.schedule = dict(name="poly", warmup_steps=200)
    config.train = dict(epochs=300, batch_size=16, dtype="bfloat16", ema=0.999, eval_every=460)
    config.eval = dict(split="val", final_split="test", batch_size=8)
    return config
