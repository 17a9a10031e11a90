"""Surfaces that points are drawn from, uniformly by area.

Shape legend: N points. The second coordinate is up.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple, Protocol

import numpy as np

Vector = tuple[float, float, float]


class Points(NamedTuple):
    """float64 [N, 3] each: places and outward unit normals."""

    places: np.ndarray
    normals: np.ndarray


class Surface(Protocol):
    """A surface with an area and points on it."""

    @property
    def area(self) -> float: ...

    def draw(self, rng: np.random.Generator, count: int) -> Points:
        """`count` points, uniform by area."""
        ...


@dataclasses.dataclass(frozen=True)
class Box:
    """The six faces of an upright box.

    Attributes:
      centre: of its bottom face.
      size: width, height, depth.
    """

    centre: Vector
    size: Vector

    @property
    def _faces(self) -> np.ndarray:
        """Area of a face across each axis."""
        return np.prod(self.size) / np.asarray(self.size)

    @property
    def area(self) -> float:
        return float(2 * self._faces.sum())

    def draw(self, rng: np.random.Generator, count: int) -> Points:
        axis = rng.choice(3, count, p=self._faces / self._faces.sum())
        side = rng.choice([-1.0, 1.0], count)
        unit = rng.uniform(-0.5, 0.5, (count, 3))
        normals = np.zeros((count, 3))
        normals[np.arange(count), axis] = side
        unit[np.arange(count), axis] = side / 2
        middle = np.add(self.centre, (0.0, self.size[1] / 2, 0.0))
        return Points(middle + unit * self.size, normals)


@dataclasses.dataclass(frozen=True)
class Cone:
    """The upright mantle of a truncated cone: a cylinder where both radii are equal, a disc or ring where the height
    is 0.

    Attributes:
      centre: of its lower rim.
      height: above it, 0 or more.
      lower, upper: radii.
    """

    centre: Vector
    height: float
    lower: float
    upper: float

    @property
    def _slant(self) -> float:
        return math.hypot(self.height, self.upper - self.lower)

    @property
    def area(self) -> float:
        return math.pi * (self.lower + self.upper) * self._slant

    def draw(self, rng: np.random.Generator, count: int) -> Points:
        # The radius, linear along the mantle, is distributed as its square is uniformly; of a cylinder the height is.
        share, angle = rng.uniform(size=count), rng.uniform(0, 2 * math.pi, count)
        if self.lower != self.upper:
            radius = np.sqrt(self.lower**2 + share * (self.upper**2 - self.lower**2))
            share = (radius - self.lower) / (self.upper - self.lower)
        else:
            radius = np.full(count, self.lower)
        around = np.stack([np.cos(angle), np.zeros(count), np.sin(angle)], axis=-1)
        places = np.add(self.centre, around * radius[:, None])
        places[:, 1] += share * self.height
        outward, up = self.height / self._slant, (self.lower - self.upper) / self._slant
        return Points(places, around * outward + np.asarray([0.0, up, 0.0]))


@dataclasses.dataclass(frozen=True)
class Ball:
    """A sphere about `centre`."""

    centre: Vector
    radius: float

    @property
    def area(self) -> float:
        return 4 * math.pi * self.radius**2

    def draw(self, rng: np.random.Generator, count: int) -> Points:
        normals = rng.standard_normal((count, 3))
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        return Points(np.add(self.centre, self.radius * normals), normals)


@dataclasses.dataclass(frozen=True)
class Handle:
    """Half a torus in the plane of the first two coordinates, bulging along the first.

    Attributes:
      centre: of the whole torus.
      bow: radius of its circle.
      thickness: radius of its tube, below `bow`.
    """

    centre: Vector
    bow: float
    thickness: float

    @property
    def area(self) -> float:
        return 2 * math.pi**2 * self.bow * self.thickness

    def draw(self, rng: np.random.Generator, count: int) -> Points:
        along = rng.uniform(-math.pi / 2, math.pi / 2, count)
        # Around the tube the density grows with the distance from the torus's axis: where that falls short, the point
        # goes to the opposite side, which lies as much further out.
        around = rng.uniform(0, 2 * math.pi, count)
        inside = rng.uniform(0, 1, count) > (1 + self.thickness / self.bow * np.cos(around)) / 2
        around = np.where(inside, around + math.pi, around)
        out = np.stack([np.cos(along), np.sin(along), np.zeros(count)], axis=-1)
        side = np.asarray([0.0, 0.0, 1.0])
        normals = np.cos(around)[:, None] * out + np.sin(around)[:, None] * side
        return Points(np.add(self.centre, self.bow * out + self.thickness * normals), normals)
