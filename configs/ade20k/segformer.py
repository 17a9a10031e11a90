"""SegFormer B0 on ADE20K, 150 classes.

The recipe of Xie et al. 2021 (arXiv:2105.15203, section 4.1, and their code): AdamW, rate 6e-5 after 1,500 steps of
warm-up, ten times that in the decoder, poly 1, 16 images a step, 160,000 steps, zoom 0.5 to 2 (there of images
brought to a short side of 512, here of the images as they are), from ImageNet's weights. The paper's score (table 1),
ADE20K val, one scale: 37.4 mean IoU.

    segjax train --config=configs/ade20k/segformer.py --config.data.root=ADE20K

ADE20K is a folder as docs/data.md describes it: label k - 1 for the benchmark's class k, 255 for its 0.
Not run here: there is no score of ours.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.name = "ade20k-segformer"
    config.model = dict(name="segformer/b0")
    config.data = dict(name="folder", crop_size=(512, 512))
    config.augment = dict(scale=(0.5, 2.0), brightness=0.125, contrast=0.5, saturation=0.5, hue=0.05)
    config.optim = dict(name="adamw", learning_rate=6e-5, weight_decay=0.01, multipliers={"^(?!encoder/)": 10.0})
    config.schedule = dict(name="poly", power=1.0, warmup_steps=1500)
    config.train = dict(steps=160_000, batch_size=16, dtype="bfloat16", eval_every=16_000)
    config.eval = dict(batch_size=4)
    return config
