"""What stands where in a street, and under which light: drawn once a scene, the same at every size and frame."""

from __future__ import annotations

import dataclasses

import numpy as np

FRAME_SECONDS = 0.1
BEHIND, AHEAD = -12.0, 96.0
"""The stretch of street that exists, metres along Z from the first camera position."""


_ROOM = {"car": (0.95, 2.5), "person": (0.25, 0.3), "cyclist": (0.4, 0.9), "bin": (0.3, 0.3)}
"""Half width and half length that a thing keeps for itself when the street is laid out, metres."""


@dataclasses.dataclass
class Light:
    """Sun and sky. Colours are linear gains or radiances in 0..1; `towards` points at the sun."""

    ambient: np.ndarray
    sun: np.ndarray
    towards: np.ndarray
    zenith: np.ndarray
    haze: np.ndarray
    haze_distance: float
    cloud: float
    night: bool

    def shade(self, normal: tuple[float, float, float] | None = None, lit: float = 1.0) -> np.ndarray:
        """Gain on albedo of a surface with that normal; without one, of an upright round thing."""
        facing = 0.62 if normal is None else max(0.0, float(np.dot(normal, self.towards)))
        return (self.ambient + self.sun * (facing * lit)).astype(np.float32)


@dataclasses.dataclass
class Thing:
    """Something upright. `style` are uniform numbers that decide its looks; `instance` 0 is stuff."""

    kind: str
    x: float
    z: float
    style: np.ndarray
    velocity: tuple[float, float] = (0.0, 0.0)
    instance: int = 0

    def at(self, frame: int) -> Thing:
        step = frame * FRAME_SECONDS
        return dataclasses.replace(self, x=self.x + self.velocity[0] * step, z=self.z + self.velocity[1] * step)


@dataclasses.dataclass
class Plot:
    """A stretch of one side of the street: `building`, `park` or `crossing`; `face` is the X of its front."""

    kind: str
    side: int
    face: float
    start: float
    stop: float
    height: float
    style: np.ndarray


@dataclasses.dataclass
class Barrier:
    """A fence or hedge along the street."""

    kind: str
    x: float
    start: float
    stop: float
    height: float
    style: np.ndarray


@dataclasses.dataclass
class Street:
    """Everything about a street that does not depend on the image size."""

    light: Light
    half_road: float
    pavement: float
    bend: float
    camera_x: float
    camera_height: float
    speed: float
    yaw: float
    horizon: float
    zoom: float
    ground: np.ndarray
    plots: list[Plot]
    barriers: list[Barrier]
    things: list[Thing]
    hood: float
    wires: bool

    def middle(self, z):
        """X of the middle of the road at Z, metres."""
        return self.bend * np.square(np.clip(z, 0.0, 60.0))


def _rgb(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


TIMES = {
    "any": (0.36, 0.24, 0.18, 0.13, 0.09),
    "day": (0.60, 0.40, 0.00, 0.00, 0.00),
    "dusk": (0.00, 0.00, 0.58, 0.42, 0.00),
    "night": (0.00, 0.00, 0.00, 0.00, 1.00),
}
"""time of day -> chances of noon, overcast, golden hour, dusk, night."""


def draw_light(rng: np.random.Generator, time: str) -> Light:
    """Noon, overcast, golden hour, dusk or night, with the chances of that `time`."""
    kind = rng.choice(5, p=TIMES[time])
    azimuth = rng.uniform(0, 2 * np.pi)
    elevation = np.radians((rng.uniform(35, 65), 60.0, rng.uniform(14, 28), rng.uniform(8, 14), 45.0)[kind])
    towards = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(elevation), np.sin(azimuth) * np.cos(elevation)])
    ambient, sun, zenith, haze = (
        (_rgb(0.42, 0.46, 0.54), _rgb(0.86, 0.81, 0.70), _rgb(0.28, 0.50, 0.85), _rgb(0.74, 0.83, 0.92)),
        (_rgb(0.72, 0.74, 0.76), _rgb(0.10, 0.10, 0.10), _rgb(0.62, 0.66, 0.70), _rgb(0.80, 0.81, 0.82)),
        (_rgb(0.40, 0.38, 0.46), _rgb(1.15, 0.78, 0.42), _rgb(0.36, 0.46, 0.70), _rgb(0.98, 0.78, 0.52)),
        (_rgb(0.42, 0.38, 0.50), _rgb(0.60, 0.32, 0.20), _rgb(0.20, 0.22, 0.44), _rgb(0.86, 0.50, 0.40)),
        (_rgb(0.21, 0.22, 0.30), _rgb(0.05, 0.06, 0.08), _rgb(0.03, 0.04, 0.10), _rgb(0.17, 0.16, 0.20)),
    )[kind]
    mist = rng.random() < 0.18
    return Light(
        ambient=ambient * rng.uniform(0.85, 1.15),
        sun=sun,
        towards=towards,
        zenith=zenith,
        haze=haze,
        haze_distance=float(rng.uniform(28, 60) if mist else rng.uniform(120, 400)),
        cloud=float((rng.uniform(-0.6, 0.7), 1.0, rng.uniform(-0.3, 0.6), rng.uniform(-0.3, 0.6), -0.5)[kind]),
        night=bool(kind == 4),
    )


def _draw_side(rng: np.random.Generator, side: int, edge: float, middle) -> list[Plot]:
    plots = []
    z = BEHIND
    while z < AHEAD:
        kind = ("building", "park", "crossing")[rng.choice(3, p=[0.66, 0.24, 0.10])]
        if kind == "crossing" and (z < 6 or (plots and plots[-1].kind == "crossing")):
            kind = "building"
        length = {"building": rng.uniform(7, 18), "park": rng.uniform(7, 20), "crossing": rng.uniform(6, 9)}[kind]
        setback = rng.uniform(0.0, 3.0) * (rng.random() < 0.4)
        face = float(middle(z + 0.5 * length)) + side * (edge + setback)
        height = float(rng.choice([rng.uniform(4, 8), rng.uniform(8, 16), rng.uniform(16, 32)], p=[0.4, 0.4, 0.2]))
        plots.append(Plot(kind, side, face, z, z + length, height if kind == "building" else 0.0, rng.random(16)))
        z += length
    return plots


def draw_street(rng: np.random.Generator, time: str = "any") -> Street:
    """Draw a whole street."""
    light = draw_light(rng, time)
    half_road, pavement = rng.uniform(2.9, 4.6), rng.uniform(1.8, 4.0)
    street = Street(
        light=light,
        half_road=half_road,
        pavement=pavement,
        bend=float(rng.normal(0, 0.0025)),
        camera_x=float(rng.uniform(-0.2, 0.75) * half_road * rng.choice([1, 1, 1.6])),
        camera_height=float(rng.uniform(1.3, 2.6)),
        speed=float(rng.choice([0.0, rng.uniform(2, 9)], p=[0.2, 0.8])),
        yaw=float(rng.normal(0, 0.13)),
        horizon=float(rng.uniform(0.36, 0.56)),
        zoom=float(rng.uniform(0.72, 1.15)),
        ground=rng.random(16),
        plots=[],
        barriers=[],
        things=[],
        hood=float(rng.uniform(0.04, 0.12)) if rng.random() < 0.15 else 0.0,
        wires=bool(rng.random() < 0.2),
    )
    for side in (-1, 1):
        street.plots += _draw_side(rng, side, half_road + pavement, street.middle)
    _draw_barriers(rng, street)
    _draw_things(rng, street)
    return street


def _draw_barriers(rng: np.random.Generator, street: Street) -> None:
    def lay(kind, side, offset, start, stop):
        height = rng.uniform(0.9, 1.9)
        style = rng.random(8)
        for z in np.arange(start, stop, 4.0):
            end = min(z + 4.0, stop)
            x = float(street.middle(0.5 * (z + end))) + side * offset
            street.barriers.append(Barrier(kind, x, float(z), float(end), height, style))

    for plot in street.plots:
        if plot.kind == "park" and plot.stop > 2.0:
            kind = ("fence", "hedge", "none")[rng.choice(3, p=[0.7, 0.2, 0.1])]
            if kind != "none":
                lay(kind, plot.side, street.half_road + street.pavement, plot.start, plot.stop)
    if rng.random() < 0.8:
        start = rng.uniform(2.5, 10)
        lay("fence", rng.choice([-1, 1]), street.half_road + 0.3, start, start + rng.uniform(8, 20))


def _draw_things(rng: np.random.Generator, street: Street) -> None:
    things = street.things
    half, pavement = street.half_road, street.pavement

    def add(kind, offset, z, *, velocity=(0.0, 0.0), thing=True):
        x = float(street.middle(z)) + offset
        wide, long = _ROOM.get(kind, (0.0, 0.0))
        for other in things if wide else ():
            apart = _ROOM.get(other.kind)
            if apart and abs(other.x - x) < wide + apart[0] and abs(other.z - z) < long + apart[1]:
                return
        number = 1 + sum(t.instance > 0 for t in things) if thing else 0
        things.append(Thing(kind, x, float(z), rng.random(32), velocity, number))

    def far(low, high):
        """Depths denser near the camera, so that things come in all sizes."""
        return low * (high / low) ** rng.random()

    for side in (-1, 1):
        if rng.random() < 0.55:
            z = rng.uniform(4, 14)
            for _ in range(rng.integers(1, 5)):
                add("car", side * (half - 1.05), z)
                z += rng.uniform(5.2, 9)
    for _ in range(rng.integers(0, 4)):
        lane = rng.choice([-1, 1])
        add("car", lane * half * rng.uniform(0.3, 0.5), far(7, 45), velocity=(0.0, lane * rng.uniform(3, 9)))
    for _ in range(rng.integers(2, 7)):
        side = rng.choice([-1, 1])
        add("person", side * (half + rng.uniform(0.3, pavement)), far(4.0, 15), velocity=(0.0, rng.normal(0, 1.0)))
    if rng.random() < 0.4:
        for _ in range(rng.integers(1, 3)):
            add(
                "person",
                rng.uniform(-half, half),
                far(5, 14),
                velocity=(rng.choice([-1, 1]) * rng.uniform(0.8, 1.5), 0.0),
            )
    for _ in range(rng.integers(1, 4)):
        side = rng.choice([-1, 1])
        ahead = rng.random() < 0.6
        velocity = (0.0, side * rng.uniform(2, 5)) if ahead else (rng.choice([-1, 1]) * rng.uniform(2, 4), 0.0)
        add("cyclist", side * rng.uniform(0.35, 1.0) * (half - 0.3), far(4.0, 12), velocity=velocity)
    for _ in range(rng.integers(2, 6)):
        add("sign", rng.choice([-1, 1]) * (half + rng.uniform(0.2, 0.7)), far(4.5, 17))
    for side in (-1, 1):
        if rng.random() < 0.75:
            z, pitch = rng.uniform(4, 12), rng.uniform(9, 18)
            for _ in range(4):
                add("lamp", side * (half + 0.35), z, thing=False)
                z += pitch
        if rng.random() < 0.5:
            z, pitch = rng.uniform(5, 14), rng.uniform(6, 12)
            for _ in range(rng.integers(1, 6)):
                add("tree", side * (half + rng.uniform(0.6, max(0.8, pavement - 0.4))), z, thing=False)
                z += pitch * rng.uniform(0.7, 1.3)
    for plot in street.plots:
        if plot.kind == "park":
            for _ in range(rng.integers(1, 5)):
                z = rng.uniform(max(plot.start, 3.0), max(plot.stop, 3.1))
                add("tree", plot.side * (half + pavement + rng.uniform(1.0, 9.0)), z, thing=False)
    for _ in range(rng.integers(0, 3)):
        add("bin", rng.choice([-1, 1]) * (half + rng.uniform(0.3, pavement)), far(4, 16), thing=False)
