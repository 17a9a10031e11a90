"""Time of the dense CRF against pydensecrf, and the error of each filter against exact sums.

    python benchmarks/crf.py speed [--rounds 9] [--batch 8]
    python benchmarks/crf.py error

`speed` needs pydensecrf (github.com/lucasb-eyer/pydensecrf, built with cython < 3) beside segjax. A 500 x 375 image, 21
labels, 10 mean-field iterations, everything from the arrays to the marginals included, filters built anew each time.
The arms take turns in one process, the first one alternating; medians. Both may use all cores (pydensecrf uses one), so
the wall-clock ratio is that of one image's latency; CPU seconds stand for throughput with all cores busy. `error`
filters a softmax, and runs 5 iterations, on a smaller image with the bandwidths in pixels scaled alike.

The image is pieced together from pydensecrf's example images (--images); the logits are a noisy, coarse labelling.
Ratios are pydensecrf / segjax, above 1 where segjax is faster. Results: benchmarks/results/crf_{speed,error}_cpu.json.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from segjax.ops.crf.features import bilateral_features
from segjax.ops.crf.filter import apply_filter, build_filter
from segjax.ops.crf.mean_field import CRFParams, dense_crf

ROOT = pathlib.Path(__file__).parent
IMAGES = ROOT.parents[1] / "shared" / "data" / "fixtures" / "dense_crf"
SETS = (CRFParams(80, 13, 3, 10, 3), CRFParams(67, 4, 3, 5, 3), CRFParams(160, 3, 3, 5, 3))
LABELS, SPEED_ITERATIONS, ERROR_ITERATIONS = 21, 10, 5


def picture(folder: pathlib.Path) -> np.ndarray:
    """uint8 [375, 500, 3], at the photographs' own resolution: resampling would smooth them and empty the lattice."""
    one, two, three = (np.asarray(Image.open(folder / f"im{i}.png").convert("RGB")) for i in (1, 2, 3))
    top = np.concatenate([one[:240, :260], three[:240, :240]], 1)
    bottom = np.concatenate([two[50:185, :260], one[100:235, 80:320]], 1)
    return np.concatenate([top, bottom])


def scores(image: np.ndarray, labels: int = LABELS) -> np.ndarray:
    """float32 [H, W, labels]: a labelling by colour and place, coarse as an output of stride 8 and noisy."""
    rng = np.random.default_rng(0)
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width]
    centres = rng.uniform(0, 1, (labels, 5)) * [255, 255, 255, 400, 400]
    points = np.concatenate([image, np.stack([y * 400 / height, x * 400 / width], -1)], -1)
    label = np.stack([((points - c) ** 2).sum(-1) for c in centres]).argmin(0)
    coarse = np.eye(labels)[label[4::8, 4::8]] * 4 + rng.normal(0, 1, (*label[4::8, 4::8].shape, labels))
    grown = jax.image.resize(jnp.asarray(coarse, jnp.float32), (height, width, labels), "linear")
    return np.asarray(grown)


def reference_arm(image: np.ndarray, logits: np.ndarray, params: CRFParams) -> Callable[[], np.ndarray]:
    import pydensecrf.densecrf as dcrf

    height, width, labels = logits.shape

    def run():
        crf = dcrf.DenseCRF2D(width, height, labels)
        crf.setUnaryEnergy(np.ascontiguousarray(-logits.reshape(-1, labels).T))
        crf.addPairwiseGaussian(params.theta_gamma, params.w_spatial)
        crf.addPairwiseBilateral(params.theta_alpha, params.theta_beta, image, params.w_bilateral)
        return np.array(crf.inference(SPEED_ITERATIONS)).T.reshape(logits.shape)

    return run


def segjax_arm(image: np.ndarray, logits: np.ndarray, params: CRFParams) -> Callable[[], np.ndarray]:
    run = partial(dense_crf, params=params, method="lattice", iterations=SPEED_ITERATIONS, output="probs")
    return lambda: np.asarray(run(logits, image))


def measure(arms: dict[str, Callable], rounds: int) -> dict[str, dict[str, float]]:
    """Median wall-clock and CPU milliseconds of each arm."""
    taken = {name: ([], []) for name in arms}
    for run in arms.values():
        run()
    for i in range(rounds):
        names = list(arms)
        for name in names[i % len(names) :] + names[: i % len(names)]:
            wall, cpu = time.perf_counter(), time.process_time()
            arms[name]()
            taken[name][0].append(time.perf_counter() - wall)
            taken[name][1].append(time.process_time() - cpu)
    return {
        name: {kind: round(1e3 * statistics.median(t), 1) for kind, t in zip(("wall_ms", "cpu_ms"), times)}
        for name, times in taken.items()
    }


def speed(args: argparse.Namespace) -> dict:
    image = picture(args.images)
    logits = scores(image)
    stack = np.stack([np.roll(image, 40 * i, 1) for i in range(args.batch)]), np.stack([logits] * args.batch)
    cases = {}
    for params in SETS:
        arms = {
            "pydensecrf": reference_arm(image, logits, params),
            "segjax": segjax_arm(image, logits, params),
        }
        agreement = (arms["pydensecrf"]().argmax(-1) == arms["segjax"]().argmax(-1)).mean()
        arms["segjax_batch"] = segjax_arm(*stack, params)
        times = measure(arms, args.rounds)
        for kind in times["segjax_batch"]:
            times["segjax_batch"][kind] = round(times["segjax_batch"][kind] / args.batch, 1)
        entry = {"times": times, "labels_that_agree": float(agreement)}
        for kind in ("wall", "cpu"):
            for arm in ("segjax", "segjax_batch"):
                entry[f"{kind}_ratio_{arm}"] = round(times["pydensecrf"][f"{kind}_ms"] / times[arm][f"{kind}_ms"], 2)
        cases[f"({params.theta_alpha}, {params.theta_beta})"] = entry
        print(params[:2], json.dumps(entry), flush=True)
    return {"image": list(image.shape), "labels": LABELS, "iterations": SPEED_ITERATIONS, "cases": cases}


def error(args: argparse.Namespace) -> dict:
    """Relative error of symmetrically normalised filtering, and labels that differ after mean field, from `exact`."""
    shrink = args.shrink
    image = np.asarray(Image.fromarray(picture(args.images)).reduce(shrink))
    height, width = image.shape[:2]
    logits = scores(image, 8)
    values = jax.nn.softmax(jnp.asarray(logits).reshape(-1, 8))
    cases = {}
    for alpha, beta, *rest in SETS:
        params = CRFParams(alpha / shrink, float(beta), 3.0 / shrink, *rest[1:])
        extent = tuple(((width - 1) / params[0], (height - 1) / params[0], *[255 / beta] * 3))
        features = bilateral_features(jnp.asarray(image), params.theta_alpha, params.theta_beta)

        def filtered(method, features=features, extent=extent, **options):
            options |= {"extent": extent} if method in ("grid", "lattice") else {}
            options |= {"size": (height, width)} if method == "local" else {}
            built = jax.jit(partial(build_filter, method=method, **options))(features)
            return np.asarray(jax.jit(apply_filter)(built, values))

        def labels(method, params=params, **options):
            out = dense_crf(logits, image, params, method=method, iterations=ERROR_ITERATIONS, **options)
            return np.asarray(out.argmax(-1))

        truth, chosen = filtered("exact"), labels("exact")
        arms = {"lattice": {}, "local 11x11": {}, "local 11x11 blur 4": {"blur": 4}}
        if beta >= 8:
            arms |= {"grid": {}, "grid, cell 0.75": {"cell": 0.75}}
        entry = {}
        for name, options in arms.items():
            method = name.split()[0].rstrip(",")
            difference = filtered(method, **options) - truth
            entry[name] = {
                "filter_error": float(f"{np.linalg.norm(difference) / np.linalg.norm(truth):.2e}"),
                "labels_that_differ": float(f"{(labels(method, **options) != chosen).mean():.2e}"),
            }
        rows = np.random.default_rng(0).choice(len(values), 200, replace=False)
        entry["exact"] = {
            "largest_relative_error_against_float64": float(f"{float64_error(features, values, rows):.1e}")
        }
        cases[f"({alpha}, {beta}) / {shrink}"] = entry
        print(alpha, beta, json.dumps(entry), flush=True)
    return {"image": list(image.shape), "labels": 8, "iterations": ERROR_ITERATIONS, "cases": cases}


def float64_error(features: jax.Array, values: jax.Array, rows: np.ndarray) -> float:
    """Of unnormalised exact sums at some points."""
    built = build_filter(features, "exact", normalization="none")
    out = np.asarray(jax.jit(apply_filter)(built, values))[rows]
    f, v = np.asarray(features, np.float64), np.asarray(values, np.float64)
    truth = np.exp(-0.5 * ((f[rows, None] - f[None]) ** 2).sum(-1)) @ v
    return float((abs(out - truth) / truth).max())


def main() -> None:
    parser = argparse.ArgumentParser(description="Dense CRF: speed against pydensecrf, error against exact sums.")
    parser.add_argument("what", choices=("speed", "error"))
    parser.add_argument("--images", type=pathlib.Path, default=IMAGES, help="folder of im1.png, im2.png, im3.png")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=8, help="images of the one batched call")
    parser.add_argument("--shrink", type=int, default=3, help="of the image for `error`")
    args = parser.parse_args()
    result = {"speed": speed, "error": error}[args.what](args)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT)
    result = {
        "command": " ".join(["python", "benchmarks/crf.py", *sys.argv[1:]]),
        "device": f"{jax.devices()[0].device_kind}, {platform.machine()}, {os.cpu_count()} cores",
        "load_average": os.getloadavg()[0],
        "commit": commit.stdout.strip() or "unknown",
        "versions": {"python": platform.python_version(), "jax": jax.__version__, "pydensecrf": "2723c7f"},
        **result,
    }
    path = ROOT / "results" / f"crf_{args.what}_{jax.default_backend()}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
