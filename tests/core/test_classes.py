"""Lists of class names that meet: the same, in another order, with a void class, and different ones."""

from __future__ import annotations

import pytest

from segjax.core.classes import by_name, by_place, first_difference, unshared
from segjax.core.schema import IGNORE


@pytest.mark.parametrize(
    ("theirs", "ours", "says"),
    [
        (("a", "b"), ("a", "b"), None),
        (("Traffic_Light", "sky "), ("traffic light", "Sky"), None),
        (("bg", "a", "b"), ("b", "bg", "a"), "class 0 is 'bg' there and 'b' here"),
        (("a", "b"), ("a", "b", "c"), "class 2 is 'c' here and missing there"),
        (("a", "b", "c"), ("a", "b"), "class 2 is 'c' there and missing here"),
        (("a",), (), "class 0 is 'a' there and missing here"),
    ],
)
def test_the_first_difference(theirs, ours, says):
    assert first_difference(theirs, ours) == says


@pytest.mark.parametrize(
    ("theirs", "ours", "void", "table"),
    [
        (("a", "b"), ("a", "b"), None, (0, 1)),
        (("bg", "a", "b"), ("b", "bg", "a"), None, (1, 2, 0)),
        (("sky", "road", "Unlabelled"), ("road", "sky"), None, (1, 0, IGNORE)),
        (("other", "sky", "road"), ("sky", "road"), 0, (IGNORE, 0, 1)),
        (("void", "a"), ("void", "a"), None, (0, 1)),  # a class like any other where both have it
        (("a", "a", "b"), ("a", "a", "b"), None, (0, 1, 2)),
        (("a", "a", "b"), ("b", "a", "a"), None, None),  # which `a` is which?
        (("a", "b"), ("a", "c"), None, None),
        (("a", "b", "c"), ("a", "b"), None, None),
        (("a", "b"), ("a", "b", "c"), None, None),
        (("void", "ignore", "a"), ("a",), None, None),
    ],
)
def test_by_name(theirs, ours, void, table):
    assert by_name(theirs, ours, void) == table


def test_by_place():
    assert by_place(("a", "b", "c"), ("x", "y"), 1) == (0, IGNORE, 1)
    assert by_place(("a", "b"), ("x", "y")) == (0, 1)
    assert by_place(("a", "b"), ("x",)) is None


def test_what_is_not_shared():
    assert unshared(("a", "b"), ("a", "c")) == "class 1 is 'b' there and 'c' here"
    assert unshared(("b", "a"), ("a", "c", "b")) == "'c' is only here"
    assert unshared(("b", "a", "d"), ("a", "c", "b")) == "'d' is only there and 'c' is only here"
    assert unshared(("a", "a", "b"), ("b", "a", "a")) == "a name stands twice, and the order is another"
