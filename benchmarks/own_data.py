"""Real data sets as if they were a stranger's: plain folders, and `configs/folder.py` with nothing said but the folder.

    python benchmarks/own_data.py --root DATA [NAME ...] [--work /tmp/own_data]

DATA holds nuclei (DSB2018; labels = instances above 0), drive (DRIVE; outside the field of view void, since the
published score counts inside), isbi2012 and crackforest. Each is written out as a `folder` data set under --work, then
`segjax train --config=configs/folder.py --config.data.root=FOLDER` runs in a process of its own, and its score on the
held-out split (val, or where there is none test) goes with the chosen config into results/own_data.json. Where a set
has val and no test, the best checkpoint was chosen on that same split.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import time
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from segjax.core.config import load_config, to_dict
from segjax.inference.provenance import provenance

REPOSITORY = pathlib.Path(__file__).parent.parent
RESULTS = REPOSITORY / "benchmarks" / "results" / "own_data.json"


class Set(NamedTuple):
    """Classes, the folder of labels, the split scored, what is asked of class `scored` (metric, bar)."""

    classes: tuple[str, str]
    labels: str
    split: str
    scored: int
    metric: str
    bar: float


SETS = {
    "nuclei": Set(("background", "nucleus"), "instances", "val", 1, "dice", 0.90),
    "drive": Set(("background", "vessel"), "labels", "test", 1, "dice", 0.78),
    "isbi2012": Set(("membrane", "cell"), "labels", "val", 1, "iou", 0.80),
    "crackforest": Set(("road", "crack"), "labels", "test", 1, "dice", 0.55),
}


def write_folder(source: pathlib.Path, target: pathlib.Path, one: Set) -> None:
    """The set in `source` as SPLIT/images, SPLIT/labels and classes.txt."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    (target / "classes.txt").write_text("".join(f"{name}\n" for name in one.classes))
    for split in sorted(path.name for path in source.iterdir() if path.is_dir()):
        shutil.copytree(source / split / "images", target / split / "images")
        (target / split / "labels").mkdir()
        for path in sorted((source / split / one.labels).iterdir()):
            label = (np.array(Image.open(path)) > 0).astype(np.uint8)
            field = source / split / "fov" / path.name
            if field.is_file():
                label[np.array(Image.open(field)) == 0] = 255
            Image.fromarray(label).save(target / split / "labels" / path.name)


def run(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Trains on one set; its part of the record."""
    one, folder, workdir = SETS[name], args.work / name, args.work / "runs" / name
    write_folder(args.root / name, folder, one)
    shutil.rmtree(workdir, ignore_errors=True)
    asked = ["train", "--config=configs/folder.py", f"--config.data.root={folder}", f"--workdir={workdir}"]
    began, cpu = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "segjax.cli.main", *asked],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = json.loads((workdir / "results.json").read_text())
    classes = result["metrics"][f"per_class_{one.metric}"]
    value = classes[one.scored] if isinstance(classes, list) else classes[one.classes[one.scored]]
    assert result["split"] == one.split, f"{name} was scored on {result['split']}, not {one.split}"
    return {
        f"{one.metric} of {one.classes[one.scored]}": value,
        "asked for": one.bar,
        "split": one.split,
        "minutes": (time.perf_counter() - began) / 60,
        "minutes of CPU time": (after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime) / 60,
        "command": "segjax " + " ".join(asked),
        "step": result["step"],
        "parameters": result["parameters"],
        "metrics": result["metrics"],
        "chosen config": to_dict(load_config(str(workdir / "config.py"))),
    } | {key: value for key, value in provenance().items() if key != "command"}


def main() -> None:
    parser = argparse.ArgumentParser(description="Own data: configs/folder.py on real sets as plain folders.")
    parser.add_argument("names", nargs="*", help=f"default {', '.join(SETS)}")
    parser.add_argument("--root", type=pathlib.Path, required=True, help="holds the sets, a folder each")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("/tmp/own_data"), help="for folders and runs")
    parser.add_argument("--note", default="", help="kept in the record: what else the machine did")
    args = parser.parse_args()
    for name in args.names or SETS:
        found = run(name, args) | ({"note": args.note} if args.note else {})
        found = json.loads(json.dumps(found).replace(str(args.work), "WORK"))  # of this machine, and nobody else's
        records = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps(records | {name: found}, indent=1) + "\n")
        print(
            f"{name}: {next(iter(found))} {next(iter(found.values())):.3f} in {found['minutes']:.1f} minutes",
            flush=True,
        )


if __name__ == "__main__":
    main()
