"""Training steps and inference of nine networks, segjax against its PyTorch twins (`rivals/`), on one device.

    python benchmarks/against_torch.py [NAME ...] [--mode train infer] [--size 256x256] [--batch 2] [--dtype bfloat16]

Both sides run in one process and take turns, the order turned round every round; medians. Equal networks, parameters
and inputs, which stay on the device; what either frees is kept for its next call, as under `segjax train`. Train: cross
entropy with the auxiliary heads at 0.4, SGD with momentum, no augmentation. Infer: images to labels. On a CPU as many
threads a side, float32, and of PyTorch's two orders of memory the faster of a first round; on a GPU channels_last,
torch.compile, and bfloat16 (autocast) with `--dtype bfloat16`.

Writes results/against_torch_DEVICE.json (_bfloat16 appended), network by network, keeping what was measured before:
seconds, the ratio PyTorch / segjax (above 1: segjax is faster), and ours against the device's measured limits.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from rivals import RIVALS, build
from subjects import AUX_WEIGHT, CLASSES, LEARNING_RATE, MOMENTUM, add_input_arguments, inference, noise, train_step
from turns import add_turn_arguments, alternate, timed

from segjax.benchmarking.limits import Limits, compare, measure_limits
from segjax.core.host_memory import keep_freed_memory
from segjax.training.throughput import device_memory_bytes

RESULTS = pathlib.Path(__file__).parent / "results"


class Torch:
    """The twin of a network on the same device, in one order of memory."""

    def __init__(self, name: str, args: argparse.Namespace, channels_last: bool):
        images, labels = noise(args)
        gpu = torch.cuda.is_available()
        device = "cuda" if gpu else "cpu"
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.network = build(name, CLASSES).to(device, memory_format=layout)
        nchw = torch.from_numpy(images).permute(0, 3, 1, 2)
        self.images = nchw.to(device).contiguous(memory_format=layout)
        self.labels = torch.from_numpy(labels.astype(np.int64)).to(device)
        self.optimiser = torch.optim.SGD(self.network.parameters(), LEARNING_RATE, MOMENTUM)
        self.called = torch.compile(self.network) if gpu else self.network
        self.autocast = torch.autocast(device, torch.bfloat16, enabled=args.dtype == "bfloat16")
        self.wait = torch.cuda.synchronize if gpu else (lambda: None)

    def train(self) -> None:
        """One step."""
        self.network.train()
        self.optimiser.zero_grad(set_to_none=True)
        with self.autocast:
            logits, *auxiliary = self.called(self.images)
        weights = [1.0] + [AUX_WEIGHT] * len(auxiliary)
        loss = sum(
            weight * torch.nn.functional.cross_entropy(x.float(), self.labels, ignore_index=255)
            for weight, x in zip(weights, (logits, *auxiliary))
        )
        loss.backward()
        self.optimiser.step()
        self.wait()

    def infer(self) -> torch.Tensor:
        """Labels of the batch."""
        self.network.eval()
        with torch.inference_mode(), self.autocast:
            labels = self.called(self.images).argmax(1).to(torch.uint8)
        self.wait()
        return labels


def measure(name: str, mode: str, args: argparse.Namespace, limits: Limits, memory_kept: bool) -> dict[str, Any]:
    """The record of one network and mode."""
    ours, known = (train_step if mode == "train" else inference)(name, args)
    orders = (True,) if torch.cuda.is_available() else (False, True)
    theirs = {order: getattr(Torch(name, args, order), mode) for order in orders}
    ours(), ours()
    for call in theirs.values():
        call(), call()
    first = {order: alternate({"torch": call}, 3)["torch"] for order, call in theirs.items()}
    best = min(first, key=lambda order: statistics.median(first[order]))
    record = timed({"segjax": ours, "torch": theirs[best]}, args, memory_kept)
    record["versions"]["torch"] = torch.__version__
    return record | {
        "ratio": record["torch"] / record["segjax"],
        "torch_channels_last": best,
        "compile_seconds": known["compile_seconds"],
        **compare(record["segjax"], limits, known["flops"], known["nbytes"]),
        **limits.record,
        "device_memory": device_memory_bytes(),
        "threads": torch.get_num_threads(),
    }


def markdown(records: dict[str, Any]) -> str:
    """The table of docs/performance.md."""
    rows = ["| network | mode | segjax, ms | PyTorch, ms | PyTorch / segjax | of the measured peak |"]
    rows.append("|---|---|---|---|---|---|")
    for name, record in records.items():
        for mode in ("train", "infer"):
            if mode in record:
                one = record[mode]
                times = f"{1e3 * one['segjax']:,.0f} | {1e3 * one['torch']:,.0f} | {one['ratio']:.2f}"
                rows.append(f"| `{name}` | {mode} | {times} | {one['utilisation']:.0%} |")
    return "\n".join(rows)


def main() -> None:
    memory_kept = keep_freed_memory()
    parser = argparse.ArgumentParser(description="segjax against PyTorch.")
    parser.add_argument("names", nargs="*", help="networks; default all")
    parser.add_argument("--mode", nargs="+", choices=("train", "infer"), default=["train", "infer"])
    add_input_arguments(parser)
    add_turn_arguments(parser, rounds=15, seconds=30.0)
    parser.add_argument("--markdown", action="store_true", help="print the table of what was measured")
    parser.add_argument("--device", choices=("cpu", "gpu"), default=jax.default_backend(), help="of --markdown")
    args = parser.parse_args()

    suffix = "" if args.dtype == "float32" else f"_{args.dtype}"
    path = RESULTS / f"against_torch_{args.device}{suffix}.json"
    networks = json.loads(path.read_text())["networks"] if path.exists() else {}
    if args.markdown:
        print(markdown(networks))
        return
    for name in set(args.names) - set(RIVALS):
        parser.error(f"{name}: no twin; these have one: {', '.join(RIVALS)}")

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.backends.cudnn.benchmark = True
    limits = measure_limits(jnp.dtype(args.dtype))
    for name in args.names or RIVALS:
        for mode in args.mode:
            record = measure(name, mode, args, limits, memory_kept)
            networks.setdefault(name, {})[mode] = record
            print(f"{name:24} {mode:6} {record['ratio']:.2f}", file=sys.stderr, flush=True)
            ordered = {known: networks[known] for known in RIVALS if known in networks}
            path.write_text(
                json.dumps({"dtype": args.dtype, "unit": "s, median", "networks": ordered}, indent=1) + "\n"
            )
            jax.clear_caches()


if __name__ == "__main__":
    main()
