"""CRF-as-RNN on CamVid, 11 classes, 480x360: the CRF's parameters on top of a trained ENet that stays as it is; after
Zheng et al. 2015 (arXiv:1502.03240).

    segjax train --config=configs/camvid/crfasrnn.py --config.data.root=CAMVID --config.init.checkpoint=runs/enet
    segjax train --config=configs/camvid/crfasrnn.py:cpu --config.data.root=CAMVID --config.init.checkpoint=runs/enet

The first is for an accelerator, the second for two CPU cores. runs/enet is the workdir of configs/camvid/enet.py.

mIoU at 480x360, void ignored, one scale, of the :cpu twin on an ENet of 14 epochs: val 0.552 without a CRF, 0.577 with
`evaluate --crf w_bilateral=2,w_spatial=2`, 0.616 trained; test 0.444, 0.464, 0.475. The loss on 34 images of val falls
from 0.485 (ENet) and 0.463 (the CRF as it starts) to 0.290. Part of this undoes the class weights of ENet's training,
which the CRF's loss has not: half of their logarithm taken off the logits, and no CRF, gives 0.565 on val
(benchmarks/results/camvid_crfasrnn_cpu.json). The accelerator's recipe has not been run.
"""

from ml_collections import ConfigDict


def get_config(arg=""):
    config = ConfigDict()
    config.name = "camvid-crfasrnn"
    config.model = dict(
        name="crfasrnn/enet",
        options=dict(
            frozen=True,
            std=(58.395, 57.12, 57.375),
            mean_field=dict(
                theta_alpha=80.0,
                theta_beta=13.0,
                theta_gamma=3.0,
                spatial_weight=1.0,
                bilateral_weight=1.0,
                iterations=5,
                train_iterations=5,
                method="lattice",
            ),
        ),
    )
    config.init = dict(into="unary")
    config.data = dict(name="camvid", crop_size=(360, 480), cache_decoded=True)
    config.optim = dict(name="adamw", learning_rate=2e-2, weight_decay=0.0, multipliers={"^unary/": 0})
    config.schedule = dict(name="poly", warmup_steps=10)
    config.train = dict(epochs=20, batch_size=16)
    config.eval = dict(split="val", final_split="test", batch_size=4)
    if arg == "cpu":
        config.name += "-cpu"
        config.data.crop_size = (256, 320)
        config.train = dict(steps=150, batch_size=4, eval_every=75, log_every=10)
    return config
