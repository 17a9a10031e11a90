"""What becomes of host memory that a compiled program has freed."""

from __future__ import annotations

import ctypes
import os
import platform

import jax

# Of <malloc.h>; the values turn trimming and mmap off.
_M_TRIM_THRESHOLD, _NEVER = -1, -1
_M_MMAP_MAX, _NONE = -4, 0
# With what users tell malloc what to do themselves: mallopt(3), ld.so(8).
_THEIRS = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")


def keep_freed_memory() -> bool:
    """Tells glibc to keep what is freed for the next allocation; call it before anything touches jax's devices.

    XLA's CPU client frees a program's buffers after each call. Given back to the system, they cost a page fault for
    every 4 KiB of the next call (docs/performance.md, "Memory kept between steps"). glibc keeps large buffers in the
    main thread's heap only, so that programs are dispatched there, on a CPU, instead of in a thread of jax's.

    Returns:
      Whether it did: false with another C library, and where the environment says what malloc is to do.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith(_THEIRS) for name in os.environ):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    return mallopt(_M_MMAP_MAX, _NONE) == 1 and mallopt(_M_TRIM_THRESHOLD, _NEVER) == 1
