"""The studies: each is a plan that can be trained, and the pages show what their committed runs say."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from fixlm.comparison.plan import Plan
from fixlm.comparison.status import survey

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path.stem for path in (ROOT / "scripts").glob("study_*.py") if path.stem != "study_report")
SMALL = "--hidden-size 8 --embed-size 8 --epochs 1 --batch-size 4 --bptt 5 --max-steps 2 --threads 1"


def folder(script: str) -> str:
    return script.removeprefix("study_").replace("_", "-")


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module(name)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_study_is_a_plan_that_can_be_trained(
    script: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = load(script, monkeypatch)
    runs = Plan(module.SETTINGS, [1], module.COMMON).runs(tmp_path)
    assert len({run.path for run in runs}) == len(runs) >= len(module.SETTINGS)
    assert all(run.config is not None and run.config.data.data == "wikitext-2" for run in runs)


def test_a_study_trains_its_layers_and_writes_their_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_corpus: Path
) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "study_published.py"), str(tmp_path / "runs")]
    done = subprocess.run(
        [*command, "--data", str(tiny_corpus), *SMALL.split()], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    settings = load("study_published", monkeypatch).SETTINGS
    assert [setting.flags["output-embed"] for setting in settings] == [
        "tied",
        "tied",
        "pmi",
        "walsh",
        "walsh",
    ]
    for setting in settings:
        assert f"[{setting.name}]({setting.folder}-seed1)" in done.stdout
        result = tmp_path / "runs" / f"{setting.folder}-seed1" / "result.json"
        assert json.loads(result.read_text())["steps"] == 2


@pytest.mark.parametrize("script", [name for name in SCRIPTS if (ROOT / "results" / folder(name)).is_dir()])
def test_committed_runs_are_of_the_study_that_its_script_describes(
    script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = ROOT / "results" / folder(script)
    planned = load("study_report", monkeypatch).plan(folder(script)).runs(directory)
    runs = survey(planned)  # raises where a run has other settings
    assert {path.parent for path in directory.glob("*/result.json")} == {
        run.path for run in runs if run.result
    }


@pytest.mark.parametrize("page", ["README.md", "docs/study.md"])
def test_the_tables_of_a_page_are_those_of_the_committed_runs(
    page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert load("study_report", monkeypatch).filled(text, (ROOT / page).parent) == text
