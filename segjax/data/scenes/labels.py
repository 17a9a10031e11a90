"""The label space of scenes: street classes first, cell classes after them."""

from __future__ import annotations

_TABLE = (
    # name, colour, thing
    ("sky", (112, 174, 226), False),
    ("building", (142, 96, 82), False),
    ("road", (92, 84, 108), False),
    ("pavement", (206, 160, 190), False),
    ("vegetation", (84, 146, 66), False),
    ("pole", (226, 196, 92), False),
    ("sign", (240, 106, 40), True),
    ("fence", (170, 140, 120), False),
    ("vehicle", (38, 66, 170), True),
    ("person", (212, 36, 72), True),
    ("cyclist", (132, 30, 132), True),
    ("medium", (34, 44, 56), False),
    ("cytoplasm", (96, 190, 176), True),
    ("membrane", (250, 236, 180), True),
    ("nucleus", (70, 92, 200), True),
    ("mitochondrion", (228, 96, 130), True),
    ("fibre", (196, 214, 70), False),
)

CLASSES: tuple[str, ...] = tuple(row[0] for row in _TABLE)
"""Names in label order. The first `STREET_COUNT` occur in street scenes, the others in cell scenes."""

PALETTE: tuple[tuple[int, int, int], ...] = tuple(row[1] for row in _TABLE)
"""One (red, green, blue) colour a class, 0..255."""

THINGS: frozenset[int] = frozenset(i for i, row in enumerate(_TABLE) if row[2])
"""Classes whose pixels carry an instance number above 0."""

STREET_COUNT = 11
PANOPTIC_FACTOR = 1000
"""panoptic id = class * PANOPTIC_FACTOR + instance."""

(
    SKY,
    BUILDING,
    ROAD,
    PAVEMENT,
    VEGETATION,
    POLE,
    SIGN,
    FENCE,
    VEHICLE,
    PERSON,
    CYCLIST,
    MEDIUM,
    CYTOPLASM,
    MEMBRANE,
    NUCLEUS,
    MITOCHONDRION,
    FIBRE,
) = range(len(CLASSES))
