"""The README fits a screen and a half, starts at once, and its Python runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from pages import README, ROOT, code_blocks, sentences
from torch import nn

import fixlm

MOST_LINES = 160
MOST_WORDS = 30
FIRST_COMMAND = 30
"""Lines that a reader sees before the first scroll."""


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= MOST_LINES
    assert max(len(line) for line in README.splitlines() if "|" not in line) <= 120


def test_the_first_command_stands_on_the_first_screen() -> None:
    lines = README.splitlines()
    assert lines.index("```bash") + 2 <= FIRST_COMMAND
    assert lines[lines.index("```bash") + 1] == "make train"


def test_what_the_readme_shows_first() -> None:
    """Two sentences of what it is, one picture, the table of five rows."""
    head = README.partition("<!-- table")[0]
    opening = head.partition("![")[0]
    assert len(sentences(opening)) == 2
    assert head.count("![") == README.count("![") == 1
    rows = README.partition("<!-- table: five-layers -->\n")[2].partition("<!-- end")[0].splitlines()
    assert len(rows) == 2 + len(list((ROOT / "results" / "five-layers").glob("*-seed1.json")))


@pytest.mark.skipif(not hasattr(fixlm, "fit"), reason="the library is built on another branch")
@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = code_blocks("README.md", "python")
    monkeypatch.chdir(tmp_path)
    fit = fixlm.fit

    def short_fit(**flags: object) -> object:
        """The same run, of two steps and small: the corpus and every argument of the page stay."""
        return fit(**{**flags, "hidden_size": 16, "embed_size": 16, "max_steps": 2, "batch_size": 4, "bptt": 10})

    monkeypatch.setattr(fixlm, "fit", short_fit)
    model = nn.Sequential(nn.Embedding(100, 32), nn.Linear(32, 100))
    names = {"x": torch.randn(2, 3, 512), "targets": torch.randint(0, 33_278, (2, 3)), "model": model}
    names |= {"vectors": torch.randn(100, 32), "slots": torch.arange(33_278)}
    exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "runs" / "first" / "result.json").is_file()
    assert not isinstance(model[1], nn.Linear)
    shutil.rmtree(tmp_path / "runs")


def test_pip_and_make_install_alike() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "--constraint constraints.txt --editable" in makefile
    assert "pip install --constraint constraints.txt --editable ." in README
    assert "python -m fixlm.train --output-embed pmi --data sample" in makefile
    assert "python -m pytest" in makefile
