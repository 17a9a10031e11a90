"""Errors that Orbax's threads report besides the one that the checkpointer raises."""

import asyncio
import gc
import logging
import sys

import pytest

from segjax.training import background


@pytest.fixture
def quiet(monkeypatch):
    """`background.quiet()`, whose hooks and filters go again after the test."""
    monkeypatch.setattr(background, "_installed", [])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    kept = {name: list(logging.getLogger(name).filters) for name in ("absl", "asyncio")}
    background.quiet()
    yield
    for name, filters in kept.items():
        logging.getLogger(name).filters[:] = filters


def _lose_future(error: BaseException) -> None:
    """Collects a future that failed and that nobody asked for its error; asyncio logs that."""
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    future.set_exception(error)
    del future
    gc.collect()
    loop.close()


@pytest.mark.parametrize(
    ("message", "logged"),
    [
        ('Error writing "x" at local file "/run/4.orbax-checkpoint-tmp/d/01f3": File too large', 0),
        ("something else", 1),
    ],
)
def test_a_lost_future_is_reported_unless_it_is_of_a_checkpoint_write(quiet, caplog, message, logged):
    _lose_future(ValueError(message))
    assert sum("never retrieved" in record.getMessage() for record in caplog.records) == logged
