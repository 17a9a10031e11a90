"""`segjax config`, and the page that it writes."""

from __future__ import annotations

import pytest

from segjax.cli.config import PAGE, WRITE_PAGE, page
from segjax.cli.main import main


def test_a_key_a_group_and_all(capsys):
    assert main(["config", "optim.name"]) == 0
    assert capsys.readouterr().out.startswith("optim.name = 'adamw'\n    optimiser (a text; sgd, adamw, lamb, muon)")
    assert main(["config", "optim"]) == 0
    group = capsys.readouterr().out
    assert main(["config"]) == 0
    whole = capsys.readouterr().out
    assert group in whole
    assert "eval.crf.theta_alpha = 80.0" in whole


def test_groups_follow_the_task(capsys):
    assert main(["config", "eval", "--task", "points"]) == 0
    found = capsys.readouterr().out
    assert "eval.split" in found
    assert "crf" not in found


@pytest.mark.parametrize(
    ("words", "message"),
    [(["optim.nam"], "Did you mean 'optim.name'"), (["--task", "semantc"], "Did you mean 'semantic'")],
)
def test_what_does_not_exist_is_one_line(capsys, words, message):
    assert main(["config", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_page_is_generated():
    assert PAGE.read_text(encoding="utf-8") == page(), f"run `{WRITE_PAGE}`"
