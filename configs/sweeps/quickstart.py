"""An ablation of the quickstart, shorter and smaller: learning rate and weight decay, two seeds each, eight runs.

    segjax sweep --config=configs/sweeps/quickstart.py --jobs=2   # two processes at a time

One of them alone: segjax train --config=configs/sweeps/quickstart.py --config.optim.learning_rate=0.01. The scores of
this sweep have not been measured.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.name = "ablation"
    config.model = dict(name="unet/small")
    config.data = dict(name="scenes", crop_size=(48, 64), cache_decoded=True)
    config.data.options = dict(height=48, width=64, zoom=1.5, time="day", count=200, eval_count=40)
    config.loss = dict(name="cross_entropy_dice")
    config.optim = dict(name="muon", learning_rate=5e-2, momentum=0.95, nesterov=True, b2=0.95, weight_decay=1e-3)
    config.schedule = dict(name="cosine", warmup_steps=10)
    config.train = dict(steps=100, batch_size=4, eval_every=50)
    config.eval = dict(split="val", final_split="test", flip=True, boundary=False, samples=2)
    return config


def sweep(config):
    for rate in (config.optim.learning_rate, config.optim.learning_rate / 5):
        for decay in (config.optim.weight_decay, 0.0):
            for seed in (0, 1):
                yield {"optim.learning_rate": rate, "optim.weight_decay": decay, "seed": seed}
