"""Weights that other people trained give the scores that PyTorch gives on the same images, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from segjax.cli.main import main

SHARED = Path(__file__).parents[3] / "shared"

# Mean IoU and the IoU of each class on the JPEG images. ENet: of the authors' code in PyTorch on the same files
# (`pytorch` of enet-jpg in benchmarks/results/camvid_pretrained.json); on the PNG originals both make 53.31. ESPNet:
# PyTorch's mean on the same files; the classes are our first run's.
CASES = {
    "espnet": (
        "espnet_p_2_q_8_camvid.pth",
        "espnet/p2-q8",
        "union",
        55.527,
        [90.8, 70.12, 26.41, 92.62, 75.68, 62.87, 30.6, 14.46, 72.87, 33.46, 40.89],
    ),
    "enet": (
        "enet_camvid.pth",
        "enet/davidtvs-2018",
        "ignore",
        52.999,
        [89.98, 68.56, 22.78, 92.06, 74.74, 61.71, 18.9, 21.56, 69.14, 32.48, 31.08],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES))
def test_published_score(name, tmp_path, monkeypatch):
    file, model, void, miou, per_class = CASES[name]
    weights, root = SHARED / "weights" / file, SHARED / "data" / "camvid"
    for path in (weights, root):
        if not path.exists():
            pytest.skip(f"{path} is absent")
    monkeypatch.setenv("SEGJAX_CACHE", str(tmp_path / "cache"))
    out, kept = str(tmp_path / "out"), tmp_path / "scores.json"
    convert = ["convert", "--from", str(weights), "--model", model, "--preset", f"{name}-camvid", "--out", out]
    assert main(convert) == 0
    data = ["--config.data.name=camvid", f"--config.data.root={root}", "--config.eval.boundary=False"]
    assert main(["evaluate", "--checkpoint", out, "--split", "test", "--output", str(kept), *data]) == 0
    result = json.loads(kept.read_text())
    assert (result["images"], result["void"]) == (233, void)
    assert 100 * result["metrics"]["miou"] == pytest.approx(miou, abs=0.01)
    np.testing.assert_allclose(100 * np.array(result["metrics"]["per_class_iou"]), per_class, atol=0.05)
