"""Leaving in good order: what fails on the way out never hides what went wrong before."""

from __future__ import annotations

import contextlib
import types


class Cleanup(contextlib.ExitStack):
    """An `ExitStack` from whose body's error no error of a callback takes the place."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> bool:
        try:
            return bool(super().__exit__(kind, error, trace))
        except Exception:
            if error is None:
                raise
            return False
