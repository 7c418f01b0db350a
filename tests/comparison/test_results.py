"""The README's figures are those of the committed results."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fixlm.runs.summary import POINTS, read_summary

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUNS = sorted((ROOT / "results").glob("**/*-seed*.json"))


def read(run: Path) -> dict[str, Any]:
    return read_summary(run)["result"]


def test_what_make_train_leads_one_to_expect() -> None:
    result = read(ROOT / "results" / "sample-pmi-512-seed1.json")
    for name, score in (("test perplexity of about", result["test"]), ("unigram model's", result["unigram"]["test"])):
        assert f"{name} {score['perplexity']:.0f}" in README


def test_the_table_of_ratios_is_that_of_the_benchmark() -> None:
    found = json.loads((ROOT / "results" / "benchmark" / "full.json").read_text())
    ratios, memory = found["ratios"], found["extra_memory_mb"]
    shares = json.loads((ROOT / "results" / "benchmark" / "profile.json").read_text())["percent"]
    layers = ("learned_fused", "dense_fixed_float32", "walsh", "hadamard")
    rows = {
        "loss and gradients": [f"{ratios[f'{layer}_loss']:.1f}" for layer in layers],
        "scoring": [f"{ratios[f'{layer}_nll']:.1f}" for layer in layers],
        "logits of one token": ["–", *(f"{ratios[f'{layer}_decode']:.1f}" for layer in layers[1:])],
        "whole training step": [f"{ratios[f'{layer}_step']:.1f}" for layer in ("tied", "pmi", "walsh", "hadamard")],
        f"peak extra memory, MB (plain torch: {max(memory['plain torch, learned'].values()):,.0f})": [
            f"{max(memory[layer].values()):.0f}" for layer in layers
        ],
        "share of the LSTM in the step": [
            f"{shares[layer]['LSTM']:.0f} %" for layer in ("tied", "pmi", "walsh", "hadamard")
        ],
    }
    for name, cells in rows.items():
        assert f"| {name} | {' | '.join(cells)} |" in README


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_committed_run_is_whole(run: Path) -> None:
    summary = read_summary(run)
    config, result, records = summary["config"], summary["result"], summary["metrics"]
    assert config["corpus"] == result["corpus"]
    assert config["versions"]["torch"]
    assert summary["status"]["state"] == "done"
    assert any("validation perplexity" in line for line in summary["log"])
    scores = [record["validation"] for record in records if "validation" in record]
    assert min(scores, key=lambda score: score["nll"]) == result["valid"]
    assert records[-1]["step"] == result["steps"]
    assert 0 < len(records) - len(scores) <= POINTS


def test_the_results_stay_small() -> None:
    files = [path for path in (ROOT / "results").rglob("*") if path.is_file()]
    assert len(RUNS) > 130
    assert len(files) < 200
    assert sum(path.stat().st_size for path in files) < 4_000_000


@pytest.mark.parametrize("page", ["README.md", "docs/study.md"])
def test_every_result_that_a_page_links_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = set(re.findall(r"\]\(((?:\.\./)?results/[^)]*)\)", text))
    assert len(links) > 30
    assert [link for link in links if not ((ROOT / page).parent / link).is_file()] == []


def test_every_figure_under_results_stands_on_a_page() -> None:
    pages = "".join((ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/study.md"))
    figures = [path.relative_to(ROOT).as_posix() for path in (ROOT / "results").rglob("*.png")]
    assert [figure for figure in figures if f"{figure})" not in pages] == []


def test_every_perplexity_in_the_text_of_the_study_is_one_of_a_run() -> None:
    text = (ROOT / "docs" / "study.md").read_text(encoding="utf-8")
    text = re.sub(r"<!-- table.*?<!-- end of table -->", "", text, flags=re.DOTALL)
    timed = [json.loads(path.read_text()) for path in (ROOT / "results" / "benchmark").glob("steps-*.json")]
    known = {f"{us:.1f}" for steps in timed for us in steps["microseconds_per_token"]["step"].values()}
    known |= {"130.3", "142.1"}  # published, with their source beside them
    results = [read(run) for run in RUNS]
    known |= {f"{result[split]['perplexity']:.1f}" for result in results for split in ("valid", "test")}
    found = re.findall(r"(?<![\d.])\d{3}\.\d(?!\d)", text)
    assert len(found) > 10
    assert {*found} <= known


def test_every_loss_in_the_text_of_the_study_is_one_of_a_run() -> None:
    text = (ROOT / "docs" / "study.md").read_text(encoding="utf-8")
    trained, by_frequency = set(), set()
    for run in RUNS:
        summary = read_summary(run)
        result, records = summary["result"], [each for each in summary["metrics"] if "loss" in each]
        late = [each["loss"] for each in records if each["step"] > result["steps"] - 150]
        trained.add(f"{sum(late) / len(late):.2f}")
        bands = result.get("test_by_frequency", ())
        by_frequency |= {f"{band['total_nats'] / band['targets']:.2f}" for band in bands}
    said = re.findall(r"(?:trains\s+to|training\s+loss\s+of)\s+(\d\.\d\d)\b", text)
    assert len(said) > 4
    assert {*said} <= trained
    rows = [re.findall(r"(?<=\| )\d{1,2}\.\d\d(?= \|)", line) for line in text.splitlines()]
    bands = [number for row in rows if len(row) == 5 for number in row]
    assert len(bands) == 35
    assert {*bands} <= by_frequency
