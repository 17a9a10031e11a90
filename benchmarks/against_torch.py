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
import math
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from rivals import RIVALS, build

from segjax.benchmarking.limits import Limits, compare, measure_limits, must_move
from segjax.benchmarking.train import Subject
from segjax.core.config import Config, from_dict
from segjax.core.host_memory import keep_freed_memory
from segjax.core.registry import create_model
from segjax.core.schema import IMAGE, LABEL, LOGITS, VALID
from segjax.inference.provenance import provenance
from segjax.tasks.semantic import SemanticTask
from segjax.training.state import init_variables
from segjax.training.throughput import device_memory_bytes, step_flops

RESULTS = pathlib.Path(__file__).parent / "results"
CLASSES, AUX_WEIGHT, LEARNING_RATE, MOMENTUM = 19, 0.4, 0.01, 0.9


def segjax_train(name: str, images: np.ndarray, labels: np.ndarray, dtype: str) -> tuple[Callable[[], Any], dict]:
    """(one step, {flops, nbytes, compile_seconds})."""
    config = settings(images, dtype)
    subject = Subject(
        config,
        model=create_model(name, CLASSES, dtype=jnp.dtype(dtype)),
        task=SemanticTask(CLASSES, aux_weight=AUX_WEIGHT),
        transform=None,
        batch={IMAGE: images, LABEL: labels.astype(np.uint8), VALID: np.ones(len(images), bool)},
    )
    began = time.perf_counter()
    subject.compiled  # noqa: B018 - compiles
    seconds = time.perf_counter() - began
    return (
        lambda: jax.block_until_ready(subject.run()),
        {"flops": subject.flops, "nbytes": subject.nbytes, "compile_seconds": seconds},
    )


def segjax_infer(name: str, images: np.ndarray, dtype: str) -> tuple[Callable[[], Any], dict]:
    """(labels of the batch, {flops, nbytes, compile_seconds})."""
    model = create_model(name, CLASSES, dtype=jnp.dtype(dtype))
    variables = jax.device_put(init_variables(model, 0, images.shape[1:]))
    placed = jax.device_put(images)

    def labels(variables: Any, images: jax.Array) -> jax.Array:
        return jnp.argmax(model.apply(variables, images)[LOGITS], axis=-1).astype(jnp.uint8)

    began = time.perf_counter()
    lowered = jax.jit(labels).lower(variables, placed)
    compiled = lowered.compile()
    seconds = time.perf_counter() - began
    return (
        lambda: jax.block_until_ready(compiled(variables, placed)),
        {"flops": step_flops(lowered), "nbytes": must_move(compiled, 1), "compile_seconds": seconds},
    )


def settings(images: np.ndarray, dtype: str) -> Config:
    """The train step's: plain SGD at a constant rate."""
    return from_dict(
        {
            "data": {"crop_size": images.shape[1:3]},
            "train": {"batch_size": len(images), "dtype": dtype},
            "optim": {"name": "sgd", "learning_rate": LEARNING_RATE, "momentum": MOMENTUM, "weight_decay": 0.0},
            "parallel": {"data": 1},
        }
    )


class Torch:
    """The twin of a network on the same device, in one order of memory."""

    def __init__(self, name: str, images: np.ndarray, labels: np.ndarray, dtype: str, channels_last: bool):
        gpu = torch.cuda.is_available()
        device = "cuda" if gpu else "cpu"
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.network = build(name, CLASSES).to(device, memory_format=layout)
        nchw = torch.from_numpy(images).permute(0, 3, 1, 2)
        self.images = nchw.to(device).contiguous(memory_format=layout)
        self.labels = torch.from_numpy(labels.astype(np.int64)).to(device)
        self.optimiser = torch.optim.SGD(self.network.parameters(), LEARNING_RATE, MOMENTUM)
        self.called = torch.compile(self.network) if gpu else self.network
        self.autocast = torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")
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


def alternate(arms: dict[str, Callable[[], Any]], rounds: int, seconds: float = math.inf) -> dict[str, list[float]]:
    """Seconds of each arm's calls, taking turns: so many rounds, but after three no longer than `seconds`."""
    times: dict[str, list[float]] = {arm: [] for arm in arms}
    began = time.perf_counter()
    order = list(arms)
    for turn in range(rounds):
        for arm in order:
            start = time.perf_counter()
            arms[arm]()
            times[arm].append(time.perf_counter() - start)
        order.reverse()
        if turn >= 2 and time.perf_counter() - began > seconds:
            break
    return times


def measure(name: str, mode: str, args: argparse.Namespace, limits: Limits) -> dict[str, Any]:
    """The record of one network and mode."""
    images, labels = noise(args)
    if mode == "train":
        ours, known = segjax_train(name, images, labels, args.dtype)
    else:
        ours, known = segjax_infer(name, images, args.dtype)
    orders = (True,) if torch.cuda.is_available() else (False, True)
    theirs = {order: getattr(Torch(name, images, labels, args.dtype, order), mode) for order in orders}
    ours(), ours()
    for call in theirs.values():
        call(), call()
    first = {order: alternate({"torch": call}, 3)["torch"] for order, call in theirs.items()}
    best = min(first, key=lambda order: statistics.median(first[order]))
    load = os.getloadavg()[0]
    times = alternate({"segjax": ours, "torch": theirs[best]}, args.rounds, args.seconds)
    middle = {arm: statistics.median(found) for arm, found in times.items()}
    return {
        "segjax": middle["segjax"],
        "torch": middle["torch"],
        "ratio": middle["torch"] / middle["segjax"],
        "fastest": {arm: min(found) for arm, found in times.items()},
        "rounds": len(times["segjax"]),
        "torch_channels_last": best,
        "compile_seconds": known["compile_seconds"],
        "load_before": round(load, 1),
        **compare(middle["segjax"], limits, known["flops"], known["nbytes"]),
        "device_memory": device_memory_bytes(),
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


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """`--size`, `--batch`, which `noise` reads."""
    parser.add_argument("--size", type=size_of, default=(256, 256), metavar="HxW")
    parser.add_argument("--batch", type=int, default=2)


def noise(args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """A batch: images float32 [B, H, W, 3], labels int64 [B, H, W]."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(args.batch, *args.size, 3)).astype(np.float32)
    return images, rng.integers(0, CLASSES, (args.batch, *args.size))


def size_of(text: str) -> tuple[int, int]:
    """`256x512` -> (256, 512)."""
    height, width = text.split("x")
    return int(height), int(width)


def main() -> None:
    keep_freed_memory()
    parser = argparse.ArgumentParser(description="segjax against PyTorch.")
    parser.add_argument("names", nargs="*", help="networks; default all")
    parser.add_argument("--mode", nargs="+", choices=("train", "infer"), default=["train", "infer"])
    add_input_arguments(parser)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=30.0, help="for the rounds of one network and mode")
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

    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = True
    limits = measure_limits(jnp.dtype(args.dtype))
    for name in args.names or RIVALS:
        for mode in args.mode:
            record = measure(name, mode, args, limits)
            circumstances = {"size": list(args.size), "batch": args.batch, "threads": threads, **provenance()}
            circumstances["versions"]["torch"] = torch.__version__
            networks.setdefault(name, {})[mode] = {**record, **limits.record, **circumstances}
            print(f"{name:24} {mode:6} {record['ratio']:.2f}", file=sys.stderr, flush=True)
            ordered = {known: networks[known] for known in RIVALS if known in networks}
            path.write_text(
                json.dumps({"dtype": args.dtype, "unit": "s, median", "networks": ordered}, indent=1) + "\n"
            )
            jax.clear_caches()


if __name__ == "__main__":
    main()
