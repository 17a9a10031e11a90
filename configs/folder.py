"""Your own images and labels (docs/data.md, "Your own data: `folder`"), a config that fits itself to them.

    segjax train --config=configs/folder.py --config.data.root=my_data --workdir=runs/mine

It measures the data and the machine, chooses splits, network, crop, batch, augmentation, loss and steps by the rules
of segjax/autoconfig/rules.py, prints each choice with its reason, and writes runs/mine/config.py: a plain config that
gives the same run, to edit. What is set on the command line stays as it is, and the rules build on it.

Dice or IoU and minutes on four sets: benchmarks/results/own_data.json. docs/tutorials/own_data.md starts from a folder.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.name = "folder"
    config.data = dict(name="folder")
    return config


def adapt(config, data, machine):
    """Called by `segjax train` once it has seen data and machine; yields (key, value, reason)."""
    from segjax.autoconfig.rules import choose

    return choose(config, data, machine)
