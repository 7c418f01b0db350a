"""The README's figures are those of the committed results."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUNS = sorted(path.parent for path in (ROOT / "results").glob("**/result.json"))


def read(run: Path) -> dict[str, Any]:
    return json.loads((run / "result.json").read_text())


def test_what_make_train_leads_one_to_expect() -> None:
    result = read(ROOT / "results" / "sample-pmi-512-seed1")
    for name, score in (
        ("test perplexity of about", result["test"]),
        ("unigram model's", result["unigram"]["test"]),
    ):
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
        "whole training step": [
            f"{ratios[f'{layer}_step']:.1f}" for layer in ("tied", "pmi", "walsh", "hadamard")
        ],
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
    config = json.loads((run / "config.json").read_text())
    assert config["corpus"] == read(run)["corpus"]
    assert config["versions"]["torch"]
    assert (run / "log.txt").read_text()
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    scores = [record["validation"] for record in records if "validation" in record]
    assert min(scores, key=lambda score: score["nll"]) == read(run)["valid"]
    assert records[-1]["step"] == read(run)["steps"]


def test_every_perplexity_in_the_text_of_the_study_is_one_of_a_run() -> None:
    text = (ROOT / "docs" / "study.md").read_text(encoding="utf-8")
    text = re.sub(r"<!-- table.*?<!-- end of table -->", "", text, flags=re.DOTALL)
    timed = [json.loads(path.read_text()) for path in (ROOT / "results" / "benchmark").glob("steps-*.json")]
    known = {f"{us:.1f}" for steps in timed for us in steps["microseconds_per_token"]["step"].values()}
    known |= {"130.3", "142.1"}  # published, with their source beside them
    known |= {f"{read(run)[split]['perplexity']:.1f}" for run in RUNS for split in ("valid", "test")}
    found = re.findall(r"(?<![\d.])\d{3}\.\d(?!\d)", text)
    assert len(found) > 10
    assert {*found} <= known
