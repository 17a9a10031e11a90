"""DeepLab v2 on CamVid, 11 classes, 480x360, from scratch; the optimiser of Chen et al. 2018 (arXiv:1606.00915),
section 4: SGD with momentum 0.9, weight decay 5e-4, poly 0.9, random scales 0.5 to 1.5; the losses of all scales
count alike.

    segjax train --config=configs/camvid/deeplabv2.py --config.data.root=CAMVID        # accelerator

Not run yet: there is no score. The paper starts from a ResNet-101 trained on ImageNet and COCO.
"""

from ml_collections import ConfigDict


def get_config(arg=""):
    config = ConfigDict()
    config.name = "camvid-deeplabv2"
    config.model = dict(name="deeplabv2/resnet101")
    config.data = dict(name="camvid", crop_size=(353, 473), cache_decoded=True)
    config.augment = dict(scale=(0.5, 1.5))
    config.loss = dict(aux_weight=1.0)
    config.optim = dict(name="sgd", learning_rate=2.5e-2, momentum=0.9, weight_decay=5e-4)
    config.schedule = dict(name="poly", warmup_steps=200)
    config.train = dict(epochs=300, batch_size=16, dtype="bfloat16", ema=0.999, eval_every=460)
    config.eval = dict(split="val", final_split="test", batch_size=8)
    return config
