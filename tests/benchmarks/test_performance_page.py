"""docs/performance.md shows what the files of benchmarks/results say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def page() -> str:
    return (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")


def test_networks_against_pytorch():
    pytest.importorskip("torch", reason="the program imports it")
    import sys

    sys.path.insert(0, str(RESULTS.parent))
    try:
        from against_torch import markdown
    finally:
        sys.path.remove(str(RESULTS.parent))
    networks = json.loads((RESULTS / "against_torch_cpu.json").read_text())["networks"]
    lines = page().splitlines()
    for line in markdown(networks).splitlines():
        assert line in lines, line


@pytest.mark.parametrize("operation", ["kernel_gradient", "kept"])
def test_gradients_in_whole_networks(operation):
    for name, one in json.loads((RESULTS / "whole_networks_cpu.json").read_text())[operation].items():
        row = f"| `{name}` | {1e3 * one['native']:,.0f} | {1e3 * one['table']:,.0f} | {one['native / table']:.2f} |"
        assert row in page(), row


def test_loss_in_columns():
    tpu, cpu = (json.loads((RESULTS / f"loss_{name}.json").read_text())["cases"] for name in ("v5e", "cpu"))
    for one, other in zip(tpu, cpu, strict=True):
        once, columns = one["at_once"], one["in_columns"]
        height, width = one["stride"] * one["rows"], one["stride"] * one["columns"]
        cells = [
            f"{one['classes']} classes, stride {one['stride']}, {height}x{width}",
            *(f"{arm['temporaries_mib']:,.0f}" for arm in (once, columns)),
            *(f"{arm['predicted_ms']:.1f}" for arm in (once, columns)),
            *(f"{case['at_once / in_columns']:.2f}" for case in (one, other)),
        ]
        row = f"| {' | '.join(cells)} |"
        assert row in page(), row


def test_evaluation_and_first_step():
    evaluation = json.loads((RESULTS / "evaluation_cpu.json").read_text())
    assert f"{evaluation['segjax']:.1f} s" in page()
    assert f"{evaluation['torch']:.1f} s" in page()
    assert f"{evaluation['ratio']:.2f}" in page()
    starts = json.loads((RESULTS / "first_step_cpu.json").read_text())
    assert f"{starts['second / first']:.2f}" in page()


def test_input_pipeline():
    cases = json.loads((RESULTS / "input_cpu.json").read_text())["cases"]
    for case in cases.values():
        spent = case["cpu ms an image"]
        for side in ("segjax", "torch", "tf.data"):
            assert f" {spent[side]:.3g} " in page(), (side, spent[side])
        ratio = case["cpu ratio to segjax"]
        assert f"| {ratio['torch']:.2f} | {1 / ratio['tf.data']:.2f} |" in page(), ratio
    waited = json.loads((RESULTS / "camvid_enet_train_cpu.json").read_text())["pipeline"]["data_wait"]
    assert f" {100 * waited:.1f} % of the time goes by waiting for data" in page()


def test_png_filters():
    for name, one in json.loads((RESULTS / "png_filters.json").read_text()).items():
        up, none = one["ways"]["up, 6"], one["ways"]["none, 6"]
        cells = [f"{way[key]:.2f}" for way in (up, none) for key in ("decode / Pillow's", "bytes / Pillow's")]
        assert f"| {name} | {' | '.join(cells)} |" in page(), (name, cells)


def test_memory_kept():
    for name, one in json.loads((RESULTS / "host_memory_cpu.json").read_text()).items():
        given_back, kept = one["returned"], one["kept"]
        cells = [
            f"`{name}`",
            *(f"{1e3 * arm['seconds']:,.0f}" for arm in (given_back, kept)),
            f"{one['returned / kept']:.2f}",
            *(f"{arm['faults']:,.0f}" for arm in (given_back, kept)),
            *(f"{arm['peak MiB']:,.0f}" for arm in (given_back, kept)),
        ]
        assert f"| {' | '.join(cells)} |" in page(), name


def test_frozen_encoder():
    for name, one in json.loads((RESULTS / "frozen_encoder_cpu.json").read_text()).items():
        cells = [
            f"`{name}`",
            *(f"{1e3 * one[arm]:,.0f}" for arm in ("trained", "frozen", "cached")),
            f"{one['trained / cached']:.2f}",
            f"{one['frozen / cached']:.2f}",
            f"{one['bytes kept an image'] / 2**20:.1f}",
        ]
        row = f"| {' | '.join(cells)} |"
        assert row in page(), row
