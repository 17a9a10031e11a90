"""DeepLab v1 (LargeFOV) on CamVid, 11 classes, 480x360, from scratch; the optimiser of Chen et al. 2015
(arXiv:1412.7062), section 5: SGD with momentum 0.9, weight decay 5e-4; the poly schedule is v2's.

    segjax train --config=configs/camvid/deeplabv1.py --config.data.root=CAMVID        # accelerator

Not run yet: there is no score. The paper starts from VGG16 trained on ImageNet.
"""

from ml_collections import ConfigDict


def get_config(arg=""):
    config = ConfigDict()
    config.name = "camvid-deeplabv1"
    config.model = dict(name="deeplabv1/largefov")
    config.data = dict(name="camvid", crop_size=(353, 473), cache_decoded=True)
    config.optim = dict(name="sgd", learning_rate=1e-2, momentum=0.9, weight_decay=5e-4)
    config.schedule = dict(name="poly", warmup_steps=200)
    config.train = dict(epochs=300, batch_size=16, dtype="bfloat16", ema=0.999, eval_every=460)
    config.eval = dict(split="val", final_split="test", batch_size=8)
    return config
