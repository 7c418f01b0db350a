"""The studies: each is a plan that can be trained, and the pages show what their committed runs say."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
from pages import PAGES

from fixlm import cli
from fixlm.comparison.find_runs import survey
from fixlm.comparison.plan import read_plan
from fixlm.runs.summary import read_summaries, read_summary

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "scripts" / "studies").glob("*.toml"))
RESULTS = ROOT / "results"
SMALL = "--hidden-size 8 --embed-size 8 --epochs 1 --batch-size 4 --bptt 5 --max-steps 2 --threads 1"


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("study")


def run(program: ModuleType, *arguments: object) -> int:
    return cli.run(program.command, [*map(str, arguments)])


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.stem)
def test_a_study_is_a_plan_that_can_be_trained(study: Path, tmp_path: Path) -> None:
    plan = read_plan(study)
    runs = plan.runs(tmp_path)
    assert len({run.path for run in runs}) == len(runs) >= len(plan.settings)
    assert all(run.config is not None and run.config.data.data == "wikitext-2" for run in runs)


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.stem)
def test_names_of_runs_are_short_and_written_in_the_file(study: Path) -> None:
    folders = re.findall(r'^folder = "([a-z0-9.-]{1,60})"$', study.read_text(encoding="utf-8"), re.MULTILINE)
    assert folders == [setting.folder for setting in read_plan(study).settings]


@pytest.mark.slow
def test_a_study_trains_its_layers_and_keeps_their_runs(
    program: ModuleType, tmp_path: Path, tiny_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, kept = tmp_path / "runs", tmp_path / "kept"
    assert run(program, "published", runs, "--data", tiny_corpus, *SMALL.split()) == 0
    shown = capsys.readouterr().out
    settings = read_plan(ROOT / "scripts" / "studies" / "published.toml").settings
    layers = [setting.flags["output-embed"] for setting in settings]
    assert layers == ["tied", "tied", "pmi", "walsh", "walsh"]
    for setting in settings:
        assert f"[{setting.name}]({setting.folder}-seed1)" in shown
        result = runs / f"{setting.folder}-seed1" / "result.json"
        assert json.loads(result.read_text())["steps"] == 2

    (runs / "tied-seed1" / "result.json").unlink()
    assert run(program, "collect", runs, kept) == 0
    assert {path.stem for path in kept.iterdir()} == {
        f"{setting.folder}-seed1" for setting in settings if setting.folder != "tied"
    }
    summary = read_summary(kept / "walsh-start8-seed1.json")
    assert summary["status"] == {"state": "done", "runs_at_a_time": 1}
    assert summary["log"][-1].startswith("perplexity: valid ")
    assert run(program, "published", kept, "--data", tiny_corpus, *SMALL.split()) == 0
    assert "| [tied, embedding scale 8](tied-start8-seed1.json) |" in capsys.readouterr().out
    assert [path.name for path in kept.iterdir() if path.is_dir()] == ["tied-seed1"]  # the one that was not kept

    config = runs / "walsh-start8-seed1" / "config.json"
    before = config.read_text()
    for group, name, other in (("optimization", "lr", 0.5), ("corpus", "sha256", "0" * 64)):
        values = json.loads(before)
        values[group][name] = other
        config.write_text(json.dumps(values))  # another run of the same name
        assert run(program, "collect", runs, kept) == 2
        assert "walsh-start8-seed1: another run is kept under this name" in capsys.readouterr().err
        assert read_summary(kept / "walsh-start8-seed1.json") == summary
    config.write_text(before)

    together = tmp_path / "together" / "runs.jsonl"
    assert run(program, "collect", runs, together) == 0
    assert run(program, "collect", kept, together) == 0  # adds the other one
    assert len(together.read_text().splitlines()) == len(settings)
    assert run(program, "collect", runs, together.parent) == 2  # a run stands in one place
    assert "this run is kept in a file of several" in capsys.readouterr().err
    again = read_summaries(together)["walsh-start8-seed1"]
    assert again["result"] == summary["result"]
    assert sum("loss" in record for record in again["metrics"]) <= 30
    assert run(program, "published", together.parent, "--data", tiny_corpus, *SMALL.split(), "--table-only") == 0


def test_what_the_program_says(program: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(program, "--list") == 0
    listed = capsys.readouterr().out
    assert all(f"{study.stem} " in listed for study in STUDIES)
    assert run(program) == run(program, "--help") == 0
    assert "python scripts/study.py report" in capsys.readouterr().out
    assert run(program, "layer") == 2
    assert "study.py: unknown study 'layer'" in capsys.readouterr().err
    assert run(program, "collect", "none", "kept") == 2
    assert "none: there is no run below it that is done" in capsys.readouterr().err
    assert run(program, "collect", "runs") == 2
    assert "collect: wrong number of words" in capsys.readouterr().err
    assert run(program, "layers", "--plan", "another.json") == 2
    assert "--plan: a study has its own plan" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.stem)
def test_committed_runs_are_of_the_study_that_its_file_describes(study: Path) -> None:
    directory = RESULTS / study.stem
    runs = survey(read_plan(study).runs(directory))  # raises where a run has other settings
    kept = [*(path.stem for path in directory.glob("*-seed*.json")), *read_summaries(directory / "runs.jsonl")]
    assert len(kept) == len({*kept})
    assert {*kept} == {run.path.stem if run.path.is_file() else run.path.name for run in runs if run.result}


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if "<!-- table" in text])
def test_the_tables_of_a_page_are_those_of_the_committed_runs(page: str, program: ModuleType) -> None:
    report = importlib.import_module("study_report")
    assert report.filled(PAGES[page], (ROOT / page).parent) == PAGES[page]


@pytest.mark.slow
def test_what_is_kept_of_a_run_does_not_say_where_it_lay(program: ModuleType, tmp_path: Path) -> None:
    run, corpus = tmp_path / "five" / "tied-seed1", "wikitext-2"
    kept = program.to_keep(
        {
            "config": {
                "corpus": {"name": corpus},
                "data": {"data": f"/somewhere/{corpus}", "tokenizer": "/my/a.model"},
            },
            "log": [
                f"{run}: {corpus}, V = 33,278",
                "evaluate test: 1,024/2,048",
                "train | epoch 1 loss 4.50: 10/1,490, 9 s left",
            ],
        },
        run,
    )
    assert kept["config"]["data"] == {"data": corpus, "tokenizer": "./a.model"}
    assert kept["log"] == ["runs/five/tied-seed1: wikitext-2, V = 33,278"]  # the metrics have the rest
