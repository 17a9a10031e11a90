"""The categories of shapes: what each is put together from, in proportions drawn anew for every shape."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from segjax.data.clouds.surfaces import Ball, Box, Cone, Handle, Surface

Parts = list[list[Surface]]


def _table(rng: np.random.Generator) -> Parts:
    """A round or rectangular top on four legs, or on a column with a foot."""
    width, depth, height = rng.uniform(0.8, 1.6), rng.uniform(0.6, 1.0), rng.uniform(0.5, 0.9)
    thick, leg = rng.uniform(0.04, 0.1), rng.uniform(0.04, 0.1)
    if rng.uniform() < 0.6:
        top: list[Surface] = [Box((0.0, height, 0.0), (width, thick, depth))]
        at = [(x * (width - leg) / 2, 0.0, z * (depth - leg) / 2) for x in (-1, 1) for z in (-1, 1)]
        return [top, [Box(foot, (leg, height, leg)) for foot in at]]
    radius = width / 2
    top = [
        Cone((0.0, height + thick, 0.0), 0.0, radius, 0.0),
        Cone((0.0, height, 0.0), 0.0, 0.0, radius),
        Cone((0.0, height, 0.0), thick, radius, radius),
    ]
    return [top, [Cone((0.0, 0.0, 0.0), 0.06, radius * 0.6, leg), Cone((0.0, 0.06, 0.0), height - 0.06, leg, leg)]]


def _lamp(rng: np.random.Generator) -> Parts:
    """A foot, a pole and a shade: a cone, or a ball."""
    height, foot, shade = rng.uniform(0.6, 1.6), rng.uniform(0.15, 0.35), rng.uniform(0.2, 0.45)
    pole, rise = rng.uniform(0.015, 0.04), rng.uniform(0.25, 0.5)
    base: list[Surface] = [Cone((0.0, 0.0, 0.0), 0.0, 0.0, foot), Cone((0.0, 0.0, 0.0), 0.08, foot, pole)]
    column: list[Surface] = [Cone((0.0, 0.08, 0.0), height - 0.08, pole, pole)]
    if rng.uniform() < 0.7:
        return [base, column, [Cone((0.0, height - rise / 2, 0.0), rise, shade, shade * rng.uniform(0.3, 0.9))]]
    return [base, column, [Ball((0.0, height + shade / 2, 0.0), shade / 2)]]


def _mug(rng: np.random.Generator) -> Parts:
    """A cup with a floor, and a handle on a side of it."""
    height, radius = rng.uniform(0.7, 1.2), rng.uniform(0.3, 0.5)
    rim = radius * rng.uniform(0.9, 1.2)
    cup: list[Surface] = [Cone((0.0, 0.0, 0.0), height, radius, rim), Cone((0.0, 0.0, 0.0), 0.0, 0.0, radius)]
    bow = height * rng.uniform(0.2, 0.35)
    at = ((radius + rim) / 2, height * rng.uniform(0.45, 0.55), 0.0)
    return [cup, [Handle(at, bow, bow * rng.uniform(0.12, 0.25))]]


def _chair(rng: np.random.Generator) -> Parts:
    """A seat, a back behind it, four legs."""
    width, depth, seat = rng.uniform(0.5, 0.8), rng.uniform(0.5, 0.7), rng.uniform(0.4, 0.6)
    thick, leg, back = rng.uniform(0.04, 0.1), rng.uniform(0.03, 0.07), rng.uniform(0.4, 0.8)
    at = [(x * (width - leg) / 2, 0.0, z * (depth - leg) / 2) for x in (-1, 1) for z in (-1, 1)]
    return [
        [Box((0.0, seat, 0.0), (width, thick, depth))],
        [Box((0.0, seat + thick, -(depth - thick) / 2), (width, back, thick))],
        [Box(foot, (leg, seat, leg)) for foot in at],
    ]


CATEGORIES: dict[str, tuple[tuple[str, ...], Callable[[np.random.Generator], Parts]]] = {
    "chair": (("seat", "back", "legs"), _chair),
    "lamp": (("base", "pole", "shade"), _lamp),
    "mug": (("cup", "handle"), _mug),
    "table": (("top", "legs"), _table),
}
"""Category -> names of its parts, and what draws their surfaces."""
