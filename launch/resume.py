"""What all launchers know of a run: how to go on with it, and which ends call for that.

Launchers run on login nodes and laptops: the standard library only, no jax, no segjax.
"""

from __future__ import annotations

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


def command_of(words: Sequence[str]) -> list[str]:
    """The command behind `--`; exits with a message where there is none."""
    command = list(words[1:] if words[:1] == ["--"] else words)
    if not command:
        raise SystemExit("no command: write it behind --, such as `-- segjax train --config=configs/quickstart.py`.")
    return command
