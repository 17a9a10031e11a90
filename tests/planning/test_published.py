"""The plans that docs/planning.md shows are those of benchmarks/results, and their memory adds up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segjax.planning.text import verdict

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "benchmarks" / "results").glob("plan_*.json"))


def row(path: Path) -> str:
    """The line of the table that a plan gives."""
    record = json.loads(path.read_text(encoding="utf-8"))
    memory, times = record["memory"], record["timing"]
    low, high = times["seconds"]
    slow, fast = times["images_per_second_per_chip"]
    sent = sum(one["bytes_sent"] for one in record["collectives"])
    cells = [
        record["model"],
        record["topology"]["name"],
        f"{record['batch_per_device']:g}",
        f"{memory['needed'] / 2**30:.2f} of {memory['available'] / 2**30:.2f}",
        f"{record['work']['device_flops'] / 1e12:.2f}",
        f"{sent / 2**20:.0f}",
        f"{1e3 * low:.0f} to {1e3 * high:.0f}",
        f"{slow:.0f} to {fast:.0f}",
        f"{times['mfu'][0]:.0%} to {times['mfu'][1]:.0%}",
        f"{record['seconds']['all_cpu'] / 60:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def test_there_are_some():
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_table_shows_what_the_file_says(path):
    assert row(path) in (ROOT / "docs" / "planning.md").read_text(encoding="utf-8")


def test_what_is_said_of_a_batch_too_large():
    page = (ROOT / "docs" / "planning.md").read_text(encoding="utf-8")
    file = ROOT / "benchmarks" / "results" / "too_large_deeplabv3plus-resnet50_v5e-2x2.json"
    assert verdict(json.loads(file.read_text(encoding="utf-8"))) in page.replace("\n> ", " ")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_parts_add_up_and_parameters_are_four_bytes_each(path):
    record = json.loads(path.read_text(encoding="utf-8"))
    parts = record["memory"]["parts"]
    assert sum(parts.values()) == record["memory"]["needed"]
    assert parts["parameters"] == 4 * record["parameters"]
    # SGD: one momentum a parameter, the schedule's counter and the step.
    assert parts["optimiser_state"] == 4 * record["parameters"] + 4 + 4
