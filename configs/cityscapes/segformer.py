"""SegFormer B0 on Cityscapes, 19 classes, 2048x1024.

The recipe of Xie et al. 2021 (arXiv:2105.15203, section 4.1, and their code): AdamW, rate 6e-5 after 1,500 steps of
warm-up, ten times that in the decoder, poly 1, 8 images a step, 160,000 steps, zoom 0.5 to 2, windows of 1024x1024 in
evaluation, from ImageNet's weights. The paper's score (table 1), Cityscapes val: 76.2 mean IoU.

    segjax train --config=configs/cityscapes/segformer.py --config.data.root=CITYSCAPES

CITYSCAPES is a folder as docs/data.md describes it: the label pictures are those of the 19 training ids.
Not run here: there is no score of ours.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.name = "cityscapes-segformer"
    config.model = dict(name="segformer/b0")
    config.data = dict(name="folder", crop_size=(1024, 1024))
    config.augment = dict(scale=(0.5, 2.0), brightness=0.125, contrast=0.5, saturation=0.5, hue=0.05)
    config.optim = dict(name="adamw", learning_rate=6e-5, weight_decay=0.01, multipliers={"^(?!encoder/)": 10.0})
    config.schedule = dict(name="poly", power=1.0, warmup_steps=1500)
    config.train = dict(steps=160_000, batch_size=8, dtype="bfloat16", eval_every=16_000)
    config.eval = dict(batch_size=4, window=(1024, 1024), overlap=0.25)
    return config
