"""`python toy_process.py WORKDIR STEPS [--resume] [--at STEP ACTION]`: the toy run as a verb of the command line.

At a step, once there is a checkpoint, the data stream does something to the folder, as another process would: `fill`
its disk, or `remove` it. Or it goes on `slow`ly from there, so that others meet the run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
import types
from pathlib import Path

from segjax.cli import main as command_line
from tests.faults.processes import fill
from tests.training.toy_run import INFO, Stream, ToyNet, ToyTask, config, transform


class Eventful(Stream):
    def __init__(self, step: int | None, action: str | None, workdir: Path):
        super().__init__()
        self.step, self.action, self.workdir = step, action, workdir

    def __next__(self):
        if self.position == self.step and self.action != "slow":
            while not any(path.name.isdecimal() for path in self.workdir.glob("checkpoints/*")):  # in the background
                time.sleep(0.01)
        if self.position == self.step and self.action == "fill":
            fill(self.workdir.parent / "filler")
        elif self.position == self.step and self.action == "remove":
            shutil.rmtree(self.workdir)
        elif self.action == "slow" and self.position >= self.step:
            time.sleep(0.1)
        return super().__next__()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdir", type=Path)
    parser.add_argument("steps", type=int)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--every", type=int, default=4, help="steps between checkpoints")
    parser.add_argument("--at", nargs=2, default=(None, None))
    parser.add_argument("--start", type=Path, help="wait until this file is there")


def run(args: argparse.Namespace) -> int:
    from segjax.training.loop import train

    step, action = args.at
    print("ready", flush=True)
    while args.start is not None and not args.start.exists():
        time.sleep(0.01)
    train(
        config(train={"steps": args.steps, "eval_every": args.every, "log_every": 1}, log={"tensorboard": True}),
        model=ToyNet(features=256),
        task=ToyTask(),
        transform=transform,
        batches=Eventful(step and int(step), action, args.workdir),
        info=INFO,
        steps=args.steps,
        workdir=args.workdir,
        evaluate=lambda state: {"miou": float(state.step)},
        resume=args.resume,
    )
    return 0


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    verb = types.ModuleType("segjax.cli.toy")
    verb.add_arguments, verb.run = add_arguments, run
    sys.modules["segjax.cli.toy"] = verb
    command_line.VERBS["toy"] = "train the toy"
    sys.exit(command_line.main(["toy", *sys.argv[1:]]))
