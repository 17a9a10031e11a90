"""FCN-8s on CamVid, 11 classes, 480x360, from scratch; trained at once; SGD with momentum 0.9 as in Long et al. 2015
(arXiv:1411.4038), section 4.3, and the weight decay of the authors' solvers, 5e-4; no augmentation but mirroring.

    segjax train --config=configs/camvid/fcn.py --config.data.root=CAMVID        # accelerator

Not run yet: there is no score. The paper starts from VGG16 trained on ImageNet.
"""

from ml_collections import ConfigDict


def get_config(arg=""):
    config = ConfigDict()
    config.name = "camvid-fcn"
    config.model = dict(name="fcn/8s-atonce")
    config.data = dict(name="camvid", crop_size=(352, 480), cache_decoded=True)
    config.optim = dict(name="sgd", learning_rate=1e-2, momentum=0.9, weight_decay=5e-4)
    config.schedule = dict(name="poly", warmup_steps=200)
    config.train = dict(epochs=300, batch_size=16, dtype="bfloat16", ema=0.999, eval_every=460)
    config.eval = dict(split="val", final_split="test", batch_size=8)
    return config
