"""What every verb that computes does first: jax's compilation cache, and quiet libraries."""

from __future__ import annotations

import os
from pathlib import Path


def prepare_jax() -> None:
    """Turns on jax's persistent compilation cache, under $SEGJAX_CACHE or ~/.cache/segjax.

    A program compiled once, even one that took under a second, is then read back at the next start
    (JAX_COMPILATION_CACHE_DIR, jax's own variable, wins where it is set).
    """
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        root = Path(os.environ.get("SEGJAX_CACHE", "~/.cache/segjax")).expanduser()
        jax.config.update("jax_compilation_cache_dir", str(root / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
