"""A run's config where its config file fits itself to the data: `adapt(config, data, machine)` beside get_config."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segjax.core.config import Config

WRITTEN = "config.py"  # in the workdir


def adapt_to_data(config: Config, args: argparse.Namespace, workdir: Path) -> Config:
    """The config of `segjax train`: as it is, or fitted to data and machine where its file defines `adapt`.

    What was chosen is printed and written to WORKDIR/config.py, a config file of its own. A resumed run reads that
    instead of choosing again. Of several processes the first chooses for all.

    Raises:
      CheckpointError: the workdir holds another run, whose config would be overwritten.
      Errors of `load_config` and `open_dataset`.
    """
    from segjax.core.config import from_dict, to_dict
    from segjax.core.config_file import config_function

    adapt = config_function(args.config.partition(":")[0], "adapt")
    if adapt is None:
        return config

    import jax

    chosen = _of_first_process(config, args, workdir, adapt) if jax.process_index() == 0 else config
    return chosen if jax.process_count() == 1 else from_dict(_broadcast(to_dict(chosen)))


def _of_first_process(config: Config, args: argparse.Namespace, workdir: Path, adapt: Callable[..., Any]) -> Config:
    from segjax.core.config import load_config
    from segjax.core.errors import CheckpointError
    from segjax.core.files import write_text
    from segjax.training.checkpoint import FOLDER, committed_steps

    written = workdir / WRITTEN
    if args.resume and written.is_file():
        print(f"config: {written}, as chosen before", flush=True)
        return load_config(str(written), args.overrides)
    if steps := committed_steps((workdir / FOLDER).resolve()):
        way = "give the config that it was made with" if args.resume else "go on from it with --resume"
        raise CheckpointError(
            f"{workdir} already holds a checkpoint of step {steps[-1]}; {way}, or give another --workdir."
        )
    text = _choose(config, args, workdir, adapt)
    print(f"config: {write_text(written, text)}", flush=True)
    return load_config(str(written))


def _choose(config: Config, args: argparse.Namespace, workdir: Path, adapt: Callable[..., Any]) -> str:
    """Prints the choices; returns the text of the config file that says the same."""
    from segjax.autoconfig.choice import adapted, config_file, lines
    from segjax.autoconfig.machine import this_machine
    from segjax.core.config_file import told_as_theirs
    from segjax.data.dataset import open_dataset
    from segjax.data.fingerprint import fingerprint, training_split

    dataset = open_dataset(config.data)
    split = config.data.train_split
    if "data.train_split" not in args.overrides:
        split = training_split({name: len(source) for name, source in dataset.splits.items()})
    found, machine = fingerprint(dataset, split), this_machine()
    with told_as_theirs(args.config.partition(":")[0]):
        chosen = adapted(adapt, config, args.overrides, found, machine)
    print("\n".join([*found.lines(), machine.line(), "chosen:", *lines(chosen)]), flush=True)
    written = workdir / WRITTEN
    head = (
        f"Chosen by {args.config} for {config.data.root or config.data.name}, to edit.\n\n"
        f"    segjax train --config={written} --workdir=OTHER\n"
    )
    return config_file(chosen, head)


def _broadcast(record: dict[str, Any]) -> dict[str, Any]:
    """Process 0's JSON value, in every process."""
    import numpy as np
    from jax.experimental import multihost_utils

    data = np.frombuffer(json.dumps(record).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(data.size)))
    padded = np.resize(data, size)  # the same shape in every process
    return json.loads(bytes(np.asarray(multihost_utils.broadcast_one_to_all(padded))))
