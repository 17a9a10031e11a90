"""What every verb that computes does first: memory, jax's compilation cache, and the run's other processes."""

from __future__ import annotations

import argparse
import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segjax.core.config import Parallel
    from segjax.parallel.watchdog import Watchdog


def prepare_jax() -> None:
    """Keeps freed memory, and turns on jax's persistent compilation cache, under $SEGJAX_CACHE or ~/.cache/segjax.

    A program compiled once, even one that took under a second, is then read back at the next start
    (JAX_COMPILATION_CACHE_DIR, jax's own variable, wins where it is set).
    """
    import jax

    from segjax.core.cache import cache_root
    from segjax.core.errors import StorageError
    from segjax.core.host_memory import keep_freed_memory

    keep_freed_memory()
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        with contextlib.suppress(StorageError):  # without a place for it, programs are compiled anew
            jax.config.update("jax_compilation_cache_dir", str(cache_root() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def add_process_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that name this process among those of a run, for places that `join` cannot detect."""
    group = parser.add_argument_group("several processes", "detected under SLURM, on TPUs and under launch/*.py")
    group.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0")
    group.add_argument("--num-processes", metavar="N", type=int, help="how many there are")
    group.add_argument("--process-id", metavar="I", type=int, help="which this is, from 0")


def join(args: argparse.Namespace, settings: Parallel) -> Watchdog:
    """Joins the run's other processes, if there are any; call it before anything touches jax's devices.

    Returns:
      The context in which the processes work together; it ends this one when another is lost.

    Raises:
      ClusterError: a host that never joins, or an environment that contradicts itself.
    """
    from segjax.parallel.distributed import detect, start
    from segjax.parallel.watchdog import Watchdog

    cluster = detect(coordinator=args.coordinator, processes=args.num_processes, process=args.process_id)
    if cluster is None or cluster.processes == 1:
        return Watchdog()
    hosts = start(cluster, join_timeout=settings.join_timeout, heartbeat=settings.heartbeat)
    if cluster.process == 0:
        print(f"segjax: all {len(hosts)} processes joined: {', '.join(dict.fromkeys(hosts))}", flush=True)
    return Watchdog(
        cluster.process,
        hosts,
        heartbeat=settings.heartbeat,
        hang=settings.hang,
        coordinator=cluster.coordinator,
    )
