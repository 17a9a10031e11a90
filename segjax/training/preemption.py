"""Ending a run cleanly when the machine is taken away."""

from __future__ import annotations

import signal
import threading
import types
from typing import Any

import jax
from jax.experimental import multihost_utils


class Preemption:
    """Within this context SIGTERM, and a first Ctrl-C, only ask the run to stop; a second one ends it at once.

    With several processes jax.distributed listens for SIGTERM itself, and all processes agree on the step to stop at.
    """

    def __init__(self) -> None:
        self._name: str | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Preemption:
        # Python lets only the main thread set handlers; a run inside another thread leaves signals alone.
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()

    def requested(self, step: int) -> str | None:
        """The signal's name when the run should save and end after `step`; call it once a step in every process."""
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
            return "SIGTERM"
        return self._name

    def _note(self, number: int, frame: types.FrameType | None) -> None:
        self._name = signal.Signals(number).name
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
