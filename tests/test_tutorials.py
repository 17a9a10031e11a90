"""What the tutorials show must run: verbs, flags, keys and files exist, and the example draws a data set."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from segjax.cli.main import main
from tests.command_lines import parsed

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs" / "tutorials").glob("*.md"))


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def _commands() -> list[str]:
    lines = [line.strip() for page in PAGES for block in _blocks(page, "bash") for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line.startswith("segjax ")))


@pytest.mark.parametrize("command", _commands())
def test_commands_have_verbs_options_and_keys_that_exist(command):
    args = parsed(command)
    if getattr(args, "config", "").startswith("configs/"):
        assert (ROOT / args.config).is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_files(page):
    targets = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    assert targets
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_example_is_a_data_set_that_check_passes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    script = _blocks(ROOT / "docs" / "tutorials" / "own_data.md", "python")[0]
    for number in ("range(80)", '"count": 80'):  # fewer pictures draw as well
        assert number in script
        script = script.replace(number, number.replace("80", "6"))
    exec(compile(script, "draw_my_data.py", "exec"), {})
    assert main(["data", "check", "folder", "--root", "my_data"]) == 0
    assert "nothing wrong" in capsys.readouterr().out
    assert len(list(Path("new").iterdir())) == 8
    with Image.open("my_data/train/labels/000.png") as label:
        assert label.size == (192, 160)
