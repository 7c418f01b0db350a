"""Every command in the README works; long ones are run on a small corpus and for a few steps."""

from __future__ import annotations

import random
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fixlm import cli

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALL = shlex.split("--batch-size 4 --bptt 10 --max-steps 2 --threads 1")
BENCHMARK = shlex.split("--quick --rounds 1 --vocabulary-size 300 --hidden-size 16 --batch-size 4 --bptt 5 --threads 1")
SIZES = {"512": "32", "256": "16", "100": "8", "8000": "280", "1024": "16"}


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A directory with small corpora under the names that the README has for the real ones."""
    draw = random.Random(8)
    for name in ("sample", "wikitext-2"):
        (tmp_path / "corpora" / name).mkdir(parents=True)
        for split, lines in (("train", 400), ("valid", 20), ("test", 20)):
            text = "\n".join(" ".join(f"w{draw.randrange(60)}" for _ in range(12)) for _ in range(lines))
            (tmp_path / "corpora" / name / f"{split}.txt").write_text(text)
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    (tmp_path / "alpha.toml").write_text(blocks("toml")[0], encoding="utf-8")
    return tmp_path


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    lines = [line.split("#")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line]


def run(command: str) -> None:
    """Runs the same command, smaller: other corpora under the same names, small sizes, two steps of training."""
    words = [f"corpora/{word}" if word in ("wikitext-2", "sample") else word for word in shlex.split(command)]
    words = [SIZES.get(word, word).replace("-512-", "-32-").replace("-256-", "-16-") for word in words]
    if words[:2] == ["python", "-m"]:  # in this process, which has imported torch already
        name = words[2].removeprefix("fixlm.")
        if name == "train" and "--resume" not in words:
            words += SMALL if "--hidden-size" in words else [*SMALL, "--hidden-size", "32", "--embed-size", "32"]
        if name == "compare":  # one grid to begin with, which the others go on with
            words += [*SMALL, "--hidden-size", "16", "--embed-size", "16"] if "--data" in words else []
        assert cli.main([name, *words[3:]]) == 0, command
    else:
        words += BENCHMARK if words[1] == "scripts/benchmark.py" else []
        done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stderr)


def test_the_readme_is_covered() -> None:
    known = (
        "python -m fixlm.train",
        "python -m fixlm.evaluate",
        "python -m fixlm.compare",
        "python scripts/",
        "make train",
        "make test",
        "make quick",
    )
    assert [command for command in commands() if not command.startswith(known)] == []
    makefile = (ROOT / "Makefile").read_text()
    assert "python -m fixlm.train --output-embed pmi --data sample" in makefile
    assert "python -m pytest" in makefile


def test_every_command_runs_in_order(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    for command in commands():
        if not command.startswith("make"):
            run(command)


def test_the_matrix_in_20_lines_trains(tiny_corpus: Path, tmp_path: Path) -> None:
    (program,) = [block for block in blocks("python") if "class RandomSigns" in block]
    (tmp_path / "program.py").write_text(program)
    flags = [*SMALL, "--hidden-size", "8", "--embed-size", "8", "--random-signs-density", "0.9"]
    command = [sys.executable, "program.py", "--data", str(tiny_corpus), *flags]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "perplexity per word" in done.stdout


def test_the_plan_in_15_lines_compares(tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (plan,) = blocks("toml")
    (tmp_path / "alpha.toml").write_text(plan, encoding="utf-8")
    flags = [*SMALL, "--hidden-size", "8", "--embed-size", "8", "--seed", "1", "--data", str(tiny_corpus)]
    plan_flag = f"--plan={tmp_path / 'alpha.toml'}"
    assert cli.main(["compare", str(tmp_path / "here"), plan_flag, *flags]) == 0
    assert "| [pmi, α = 1](pmi-alpha1-seed1) |" in capsys.readouterr().out


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:fixlm|embeddings|tests|results|docs|scripts)/[\w./-]*)", README)))
)
def test_files_that_the_readme_names_exist(path: str) -> None:
    assert (ROOT / path).exists()
