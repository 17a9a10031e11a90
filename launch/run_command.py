"""The command that a launcher runs: where it stands, how to go on with it, and which ends call for that.

Launchers run on login nodes and laptops: the standard library only, no jax, no segjax.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

RESUME = "--resume"
EXIT_RESUME = 75
"""`segjax.core.errors.EXIT_RESUME`: preempted, or a process of the run was lost."""


def resumable(status: int) -> bool:
    """Whether another start with --resume makes sense: `EXIT_RESUME`, or killed by a signal (128 + its number)."""
    return status == EXIT_RESUME or status > 128


def with_resume(command: Sequence[str]) -> list[str]:
    """The command with --resume; a run that has no checkpoint yet then starts from the beginning."""
    return list(command) if RESUME in command else [*command, RESUME]


def split(argv: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The launcher's own options, and the command behind `--`; exits with a message where there is none."""
    words = list(sys.argv[1:] if argv is None else argv)
    end = words.index("--") if "--" in words else len(words)
    options, command = words[:end], words[end + 1 :]
    if not command and not {"-h", "--help"} & set(options):
        raise SystemExit("no command: write it behind --, such as `-- segjax train --config=configs/quickstart.py`.")
    return options, command
