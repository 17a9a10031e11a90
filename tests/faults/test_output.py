"""What the command line prints goes anywhere without a traceback: any encoding, closed pipes, a full disk, nowhere."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from segjax.cli.main import main
from segjax.cli.output import EXIT_PIPE
from segjax.core.files import write_text
from segjax.training.writer import Console
from tests.data.tiny_sets import make_folder
from tests.faults.processes import ROOT, SEGJAX, call, environment

NUMBERED = ("--classes=numbered", "--num-classes=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = make_folder(tmp_path_factory.mktemp("data") / "photos")
    (root / "classes.txt").write_text("straße\n道\n\U0001f600\n", encoding="utf-8")
    return root


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_names_that_the_encoding_lacks(encoding: str, folder: Path, monkeypatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    assert main(["data", "check", "folder", "--root", str(folder)]) == 0
    shown = raw.getvalue().decode(encoding)
    assert ("straße" if encoding != "ascii" else r"stra\xdfe") in shown
    assert ("道" if encoding == "utf-8" else r"\u9053") in shown


@pytest.mark.parametrize("variables", [{"PYTHONIOENCODING": "ascii:strict"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_names_in_a_real_process(variables, folder: Path) -> None:
    done = call([*SEGJAX, "data", "check", "folder", "--root", folder], env=environment(**variables), text=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"\u9053" in done.stdout or "道".encode() in done.stdout


def test_paths_that_are_no_text(tmp_path: Path, folder: Path, capsys) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        odd.mkdir()
    except OSError:
        pytest.skip("this file system takes text only")
    assert main(["data", "check", "folder", "--root", str(odd)]) == 2
    assert r"caf\udce9" in capsys.readouterr().err
    assert main(["evaluate", "--checkpoint", str(odd)]) == 2
    assert "is not UTF-8" in capsys.readouterr().err
    assert write_text(odd / "page.html", str(odd)).read_text().endswith(r"caf\udce9")
    root = make_folder(odd / "set")
    for kind in ("images", "labels"):
        (root / "train" / kind / "00.png").rename(root / "train" / kind / os.fsdecode(b"\xff.png"))
    assert (
        main(["data", "show", "folder", f"--root={root}", f"--cache={tmp_path}/cache", f"--output={odd}/sheet.png"])
        == 0
    )
    assert main(["data", "prepare", "folder", f"--root={root}", f"--cache={odd}/cache"]) == 2
    assert "is not UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [["models"], ["models", "--markdown"], ["--help"], ["train", "--help"], ["data", "check", "folder", "--root=SET"]],
    ids=" ".join,
)
def test_a_pipe_that_closes(command: list[str], folder: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    words = [word.replace("SET", str(folder)) for word in command]
    done = subprocess.run(
        [*SEGJAX, *words], stdout=write, stderr=subprocess.PIPE, env=environment(), cwd=ROOT, timeout=120
    )
    os.close(write)
    assert done.stderr == b""
    assert done.returncode == EXIT_PIPE or (command[-1] == "--help" and done.returncode == 0)


def test_an_error_into_a_pipe_that_closed() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*SEGJAX, "train", "--config=absent.py"], stdout=subprocess.PIPE, stderr=write, env=environment(), cwd=ROOT
    )
    os.close(write)
    assert done.stdout == b""
    assert done.returncode in (2, EXIT_PIPE)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("command", [["models"], ["--version"]], ids=" ".join)
def test_a_full_disk_behind_the_output(command: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*SEGJAX, *command], stdout=full, stderr=subprocess.PIPE, env=environment(), cwd=ROOT)
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert line.endswith("standard output cannot be written to: No space left on device.")


def test_what_is_kept_goes_into_a_pipe_and_replaces_no_device(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE)
    write_text(tmp_path / "pipe", "scores")
    assert reader.communicate(timeout=60)[0] == b"scores"
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed(closed: str, tmp_path: Path) -> None:
    """The next file that is opened would take the number of the stream, and the output would go into it."""
    program = (
        "import sys; from segjax.cli.main import main; import segjax.cli.models as verb\n"
        "def run(args):\n"
        "    with open(sys.argv[1], 'w') as file:\n"
        "        print('to the output', flush=True); print('to the errors', file=sys.stderr, flush=True)\n"
        "        assert file.fileno() > 2\n"
        "    return 0\n"
        "verb.run = run; sys.exit(main(['models']))"
    )
    command = f'"{sys.executable}" -c "$0" "$1" {closed}'
    done = call(["bash", "-c", command, program, tmp_path / "written"])
    assert done.returncode == 0
    assert (tmp_path / "written").read_text() == ""
    assert done.stdout == ("" if " >&-" in f" {closed}" else "to the output\n")
    assert done.stderr == ("" if "2>&-" in closed else "to the errors\n")


def test_no_environment_at_all() -> None:
    done = call([*SEGJAX, "models"], env={"PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_home_folder(tmp_path: Path, folder: Path, monkeypatch, capsys) -> None:
    def none(self: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("SEGJAX_CACHE", raising=False)
    monkeypatch.setattr(Path, "expanduser", none)
    from segjax.cli.runtime import prepare_jax

    prepare_jax()
    monkeypatch.setattr("segjax.data.layout.Path.expanduser", lambda self: self if str(self)[:1] != "~" else none(self))
    assert main(["data", "prepare", "folder", "--root", str(folder)]) == 2
    assert "there is no home folder; set SEGJAX_CACHE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["data", "check", "folder", "--root=LONG"], "File name too long"),
        (["predict", "--checkpoint=FOLDER", "--input=LONG", "--output=x"], "File name too long"),
        (["train", "--config=FOLDER"], "FOLDER"),
        (["convert", "--from=FOLDER", "--model=unet/test", "--out=FOLDER/out", *NUMBERED], "FOLDER"),
        (["data", "show", "scenes", "--output=FILE/x.png"], "FILE/x.png could not be written: "),
        (["data", "prepare", "folder", "--root=SET", "--cache=FILE"], "FILE"),
    ],
)
def test_paths_that_cannot_be_used(command: list[str], words: str, tmp_path: Path, folder: Path, capsys) -> None:
    (tmp_path / "file").touch()
    names = {"LONG": "n" * 300, "FOLDER": str(tmp_path), "FILE": str(tmp_path / "file"), "SET": str(folder)}
    for key, value in names.items():
        command = [word.replace(key, value) for word in command]
        words = words.replace(key, value)
    assert main(command) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("preparing ")]
    assert len(lines) == 1
    assert lines[0].startswith(f"segjax {command[0]}: ")
    assert words in lines[0]


def test_a_progress_bar_in_a_terminal_of_another_encoding() -> None:
    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    raw = io.BytesIO()
    terminal = Terminal(raw, encoding="ascii", errors="backslashreplace")
    console = Console(3, stream=terminal)
    console.advance(1)
    console.line("straße")
    console.close()
    terminal.flush()
    assert rb"stra\xdfe" in raw.getvalue()
