"""Ends a process whose partners are gone, and says who was lost and at which step.

A collective has no time-out: where one process dies, freezes or stays away, all others wait for ever, or until jax's
coordination service aborts them with a stack trace. Here each process writes a line to that service's key-value store
every few seconds, reads everyone's, and judges by its own clock.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import re
import signal
import socket
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

from segjax.core.errors import EXIT_RESUME, SegjaxError, reason

PREFIX = "segjax/heartbeat/"
EXIT_ABORT = 128 + signal.SIGABRT
# The status codes (absl) of lost connections, with which XLA's messages begin.
_BROKEN = re.compile("(UNKNOWN|INTERNAL|UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED|FAILED_PRECONDITION): ")


class Store(Protocol):
    """Key-value store that all processes share; jax's `DistributedRuntimeClient` is one."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None: ...

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]: ...


@dataclasses.dataclass
class Sign:
    """What a process says of itself, and when it was last heard to say something new.

    Attributes:
      beat: counts its lines.
      place: counts the calls of `Watchdog.at`: processes that do the same are at the same place.
      step: the step it works on.
      doing: what it does there.
      patient: it may take any time (compilation); nobody is called stuck meanwhile.
      left: it ended in good order.
      failed: the error it ended with, and its exit status.
      heard, moved: this process's clock when `beat` and `place` last changed.
    """

    beat: int = 0
    place: int = 0
    step: int = 0
    doing: str = "start"
    patient: bool = True
    left: bool = False
    failed: tuple[str, int] | None = None
    heard: float = 0.0
    moved: float = 0.0

    def to_json(self) -> str:
        """All but the times."""
        return json.dumps({k: v for k, v in dataclasses.asdict(self).items() if k not in ("heard", "moved")})

    def update(self, text: str, now: float) -> None:
        """Takes a process's line, read at `now`."""
        new = json.loads(text)
        if new["beat"] != self.beat:
            self.heard = now
        if new["place"] != self.place:
            self.moved = now
        for key, value in new.items():
            setattr(self, key, value)


class Watchdog:
    """A context around everything that a process of a run does together with the others.

    With one process it does nothing.

    Within it, a lost partner ends this process with one line and status `EXIT_RESUME`, a partner that failed with its
    status. An exception that leaves the context is told to the others, so that they end too, and ends this process
    there and then: jax would first wait for them.
    """

    def __init__(
        self,
        process: int = 0,
        hosts: Sequence[str] = ("localhost",),
        *,
        heartbeat: float = 30.0,
        hang: float = 600.0,
        coordinator: str = "",
        store: Store | None = None,
        end: Callable[[str, int], None] | None = None,
    ):
        """
        Args:
          process: this one.
          hosts: the host name of each process.
          heartbeat: seconds without a line after which a process is lost.
          hang: seconds in which nobody gets further, after which the run is stuck.
          coordinator: "host:port" of jax's coordination service.
          store: default jax's.
          end: ends the process with a message and a status; replaced in tests.
        """
        self.process, self.hosts, self.heartbeat, self.hang = process, list(hosts), heartbeat, hang
        self.interval = min(5.0, heartbeat / 6)
        self._coordinator, self._store, self._end = coordinator, store, end or self._exit
        now = time.monotonic()
        self._signs = [Sign(heard=now, moved=now) for _ in self.hosts]
        self._mine = self._signs[process]
        self._answered = now  # when the store last did
        self._lock, self._stop, self._ending = threading.Lock(), threading.Event(), threading.Lock()
        self._threads: list[threading.Thread] = []

    def at(self, step: int | None = None, doing: str = "step", *, patient: bool = False) -> None:
        """Says where this process is: every process calls it in the same order. Takes microseconds."""
        with self._lock:
            mine = self._mine
            mine.place += 1
            mine.step = mine.step if step is None else step
            mine.doing, mine.patient, mine.moved = doing, patient, time.monotonic()

    def __enter__(self) -> Watchdog:
        if len(self.hosts) > 1:
            if self._store is None:
                from jax._src import distributed  # jax has no public way to its key-value store

                self._store = distributed.global_state.client
            self._previous = _on_abort(self._aborted)
            for loop in (self._talk, self._judge):
                thread = threading.Thread(target=loop, name=f"watchdog{loop.__name__}", daemon=True)
                thread.start()
                self._threads.append(thread)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        if not self._threads:
            return
        if error is not None:
            self._failed(error)
        self._mine.left = True
        self._close()

    def verdict(self, now: float) -> tuple[str, int] | None:
        """What is wrong at `now`, as a message and this process's exit status, or None."""
        others = [(p, sign) for p, sign in enumerate(self._signs) if p != self.process]
        for p, sign in others:
            if sign.failed is not None:
                return f"{self._who(p)} failed at step {sign.step}: {sign.failed[0]}", sign.failed[1]
        if self.process != 0 and now - self._answered > self.heartbeat:
            return self._silent(0, now - self._answered), EXIT_RESUME
        for p, sign in others:
            if not sign.left and now - sign.heard > self.heartbeat:
                return self._silent(p, now - sign.heard), EXIT_RESUME
        waited = now - max(sign.moved for sign in self._signs)
        if waited > self.hang and not any(sign.left or sign.patient for sign in self._signs):
            return self._stuck(waited), EXIT_RESUME
        return None

    def _silent(self, process: int, seconds: float) -> str:
        sign = self._signs[process]
        return (
            f"{self._who(process)} stopped answering; it was last heard of {seconds:.0f} s ago, at step {sign.step} "
            f"({sign.doing}). This is {self._who(self.process)}, at step {self._mine.step}. Go on from the last "
            "checkpoint with --resume."
        )

    def _stuck(self, seconds: float) -> str:
        behind = min(sign.place for sign in self._signs)
        slow = [p for p, sign in enumerate(self._signs) if sign.place == behind]
        if len(slow) == len(self._signs):
            where = f"all {len(slow)} processes wait at step {self._mine.step} ({self._mine.doing}): a collective hangs"
        else:
            sign = self._signs[slow[0]]
            names = ", ".join(self._who(p) for p in slow)
            where = f"{names} is behind, at step {sign.step} ({sign.doing}); the others wait for it"
        return (
            f"nothing has moved for {seconds:.0f} s (config.parallel.hang): {where}. Look at that host, and go on "
            "from the last checkpoint with --resume."
        )

    def _who(self, process: int) -> str:
        return f"process {process} ({self.hosts[process]})"

    def _talk(self) -> None:
        """Writes this process's line and reads the others'; a thread of its own, for a dead service answers late."""
        while not self._stop.is_set():
            self._exchange()
            self._stop.wait(self.interval)

    def _exchange(self) -> None:
        with self._lock:
            self._mine.beat += 1
            line = self._mine.to_json()
        try:
            self._store.key_value_set(f"{PREFIX}{self.process}", line, allow_overwrite=True)
            lines = self._store.key_value_dir_get(PREFIX)
        except Exception:  # whatever the service raises: it did not answer, which `verdict` times
            return
        now = self._answered = time.monotonic()
        for key, text in lines:
            process = int(key.rpartition("/")[2])
            if process != self.process:
                self._signs[process].update(text, now)

    def _judge(self) -> None:
        while not self._stop.wait(self.interval / 2):
            found = self.verdict(time.monotonic())
            if found is not None:
                return self._end(*found)

    def _failed(self, error: BaseException) -> None:
        """Ends the process with the error, or with the partner's loss that caused it."""
        with self._lock:
            self._mine.patient = True  # this process will not move, and says why itself
        if _broke_off(error):
            # A connection is gone before the partner counts as lost: the judge names it.
            self._threads[1].join(self.heartbeat + 8 * self.interval)
        expected = isinstance(error, SegjaxError | OSError | KeyboardInterrupt)
        status = 2 if isinstance(error, SegjaxError | OSError) else 130 if isinstance(error, KeyboardInterrupt) else 1
        text = reason(error) if isinstance(error, OSError) else (str(error).splitlines() or [""])[0]
        text = text if isinstance(error, SegjaxError | OSError) else f"{type(error).__name__}: {text}"
        with self._lock:
            self._mine.failed = (text, status)
        self._close()
        if not expected:
            traceback.print_exception(error)
        self._end(f"{self._who(self.process)} failed at step {self._mine.step}: {text}", status)

    def _close(self) -> None:
        """Ends the threads and leaves a last line for the others."""
        self._stop.set()
        for thread in self._threads:
            thread.join(self.interval)
        self._exchange()
        self._threads = []
        _on_abort(None, self._previous)

    def _exit(self, message: str, status: int) -> NoReturn:
        """Does not return, and does not tidy up: jax would wait for the lost."""
        self._ending.acquire()  # for good: one reason is enough, whichever thread comes first
        try:
            sys.stdout.flush()
        finally:
            os.write(2, f"segjax: {message}\n".encode())
            if self.process == 0:
                time.sleep(3 * self.interval)  # the store ends with this process; the others are to read it first
            os._exit(status)

    def _aborted(self) -> None:
        """jax ends a process by abort() where the coordination service is gone, and knows not whose loss that was."""
        now = time.monotonic()
        silent = [p for p, sign in enumerate(self._signs) if not sign.left and now - sign.heard > 3 * self.interval]
        if self.process != 0 and not _listens(self._coordinator):
            silent = [0]
        silent = [p for p in silent if p != self.process]
        if silent:
            self._exit(self._silent(silent[0], now - self._signs[silent[0]].heard), EXIT_RESUME)
        self._exit(
            f"{self._who(self.process)} aborted at step {self._mine.step} ({self._mine.doing}); see the lines above.",
            EXIT_ABORT,
        )


def _broke_off(error: BaseException) -> bool:
    """Whether the error may be a collective's: jax raises ValueError for one that fails while it is dispatched."""
    import jax

    if isinstance(error, jax.errors.JaxRuntimeError):
        return "RESOURCE_EXHAUSTED" not in str(error)
    return isinstance(error, ValueError) and _BROKEN.match(str(error)) is not None


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2):
            return True
    except (OSError, ValueError):
        return False


_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int)
_kept: list[Any] = []


def _on_abort(call: Callable[[], None] | None, previous: Any = None) -> Any:
    """Sets, or with None puts back, what abort() runs first, and returns what stood there.

    Python's own handlers run between two instructions of the main thread, which abort() does not come back to; this
    one runs in the aborting thread. It must not return.
    """
    libc = ctypes.CDLL(None)
    libc.signal.restype, libc.signal.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p]
    if call is None:
        return libc.signal(signal.SIGABRT, previous)
    handler = _Handler(lambda number: call())
    _kept.append(handler)  # C keeps no reference
    return libc.signal(signal.SIGABRT, ctypes.cast(handler, ctypes.c_void_p))
