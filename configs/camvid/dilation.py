"""Dilation8 on CamVid, 11 classes, 480x360, from scratch; the optimiser of Yu and Koltun 2016 (arXiv:1511.07122),
section 4: SGD with momentum 0.9. Front end and context module train together here; the authors trained the front end
first (appendix A.1).

    segjax train --config=configs/camvid/dilation.py --config.data.root=CAMVID        # accelerator

Not run yet: there is no score. The paper starts from VGG16 trained on ImageNet.
"""

from ml_collections import ConfigDict


def get_config(arg=""):
    config = ConfigDict()
    config.name = "camvid-dilation"
    config.model = dict(name="dilation/dilation8")
    config.data = dict(name="camvid", crop_size=(352, 480), cache_decoded=True)
    config.optim = dict(name="sgd", learning_rate=1e-2, momentum=0.9, weight_decay=5e-4)
    config.schedule = dict(name="poly", warmup_steps=200)
    config.train = dict(epochs=300, batch_size=16, dtype="bfloat16", ema=0.999, eval_every=460)
    config.eval = dict(split="val", final_split="test", batch_size=8)
    return config
