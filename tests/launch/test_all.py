"""What holds for every launcher."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from pathlib import Path

import pytest

from segjax.core.errors import EXIT_RESUME
from tests.launch.launchers import FOLDER, launch

NEEDED = {
    "local": [],
    "slurm": [],
    "tpu_vm": ["n", "--zone=z"],
    "gke": ["n", "--image=i", "--gpu=nvidia-l4"],
}


def test_launchers_need_the_standard_library_alone():
    assert {path.stem for path in FOLDER.glob("*.py")} == {*NEEDED, "run_command"}
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] in {*sys.stdlib_module_names, "run_command"}, f"{path} imports {name}"


def test_the_status_that_asks_for_another_start_is_the_trainers():
    assert f"EXIT_RESUME = {EXIT_RESUME}\n" in (FOLDER / "run_command.py").read_text()


@pytest.mark.parametrize("name", NEEDED)
def test_dry_run_runs_nothing_and_writes_nothing(name, tmp_path):
    ended = launch(name, *NEEDED[name], "--dry-run", "--", "touch", "made", cwd=tmp_path, env={"PATH": ""})
    assert ended.returncode == 0, ended.stderr
    assert "touch" in ended.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_command_is_one_line(name):
    ended = launch(name, *NEEDED[name], "--dry-run")
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        "no command: write it behind --, such as `-- segjax train --config=configs/quickstart.py`."
    ]


def _shown() -> list[str]:
    """The launchers' commands in the documentation."""
    text = "".join((FOLDER.parent / page).read_text() for page in ("README.md", "docs/multihost.md"))
    return re.findall(r"^python launch/.*$", text.replace("\\\n", " "), re.MULTILINE)


@pytest.mark.parametrize("command", _shown())
def test_the_documentations_commands_are_understood(command):
    _, program, *words = shlex.split(command)
    ended = launch(Path(program).stem, "--dry-run", *words)
    assert ended.returncode == 0, ended.stderr


def test_the_documentation_shows_every_launcher():
    assert {shlex.split(command)[1] for command in _shown()} == {f"launch/{name}.py" for name in NEEDED}
