"""The committed results are whole and small, and the figures of the pages are theirs (`test_study.py`: the study's)."""

from __future__ import annotations

import json
import re

import pytest
from committed import BENCHMARKS, RESULTS, runs
from pages import PAGES, README, ROOT

from fixlm.runs.summary import POINTS, read_summary


def test_what_make_train_leads_one_to_expect() -> None:
    found = read_summary(RESULTS / "sample-pmi-512-seed1.json")
    for name, scores in (
        ("unigram (word frequencies alone)", found["result"]["unigram"]),
        ("this run", found["result"]),
    ):
        valid, test = (scores[split]["perplexity"] for split in ("valid", "test"))
        assert re.search(rf"│ {re.escape(name)} +│ {valid:.2f} │ {test:.2f} │", README)
    counts, speed, seconds = (found["result"][name] for name in ("parameters", "tokens_per_second", "seconds"))
    last = f"{counts['output_trainable']:,} of {counts['trainable']:,} trained parameters are in the output layer; "
    assert f"{last}{speed:,.0f} tokens/s, {seconds:,.0f} s of training steps." in README
    assert f"with {seconds / 60:.1f} minutes of training steps on two cores" in README


@pytest.mark.parametrize(("name", "clusters"), [("pmi-steps-256", False), ("avx2-pmi-steps-256", True)])
def test_the_steps_of_pmi_are_those_of_the_benchmark(name: str, clusters: bool) -> None:
    found = BENCHMARKS[name]
    words, size = (found["setting"][name] for name in ("vocabulary_size", "hidden_size"))
    trained = f"`pmi`, {words // 8:,} rows trained"
    rows = {"pmi": "`pmi`", "trained rows": trained}
    rows["trained rows, short tail"] = f"{trained}, all others of {size // 4} numbers"
    if clusters:
        rows["trained rows, clusters"] = f"{trained}, all others in 2 clusters"
    for step, row in rows.items():
        plain, folds = (1 / found["ratios"][each] for each in (step, f"{step}, folds"))
        assert f"| {row} | {plain:.2f} | {folds:.2f} |" in PAGES["docs/layers.md"]


def test_the_table_of_ratios_is_that_of_the_benchmark() -> None:
    found = json.loads((RESULTS / "benchmark" / "full.json").read_text())
    ratios, memory = found["ratios"], found["extra_memory_mb"]
    shares = json.loads((RESULTS / "benchmark" / "profile.json").read_text())["percent"]
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
        assert f"| {name} | {' | '.join(cells)} |" in PAGES["docs/performance.md"]


def test_the_table_of_a_processor_with_avx512_is_that_of_the_benchmark() -> None:
    ratios = json.loads((RESULTS / "benchmark" / "quick-avx512.json").read_text())["ratios"]
    shares = json.loads((RESULTS / "benchmark" / "profile-avx512.json").read_text())["percent"]
    layers = ("learned", "tied", "adaptive", "pmi", "walsh", "hadamard")
    losses = {
        "loss and gradients, float32": (
            "learned_fused", "", "adaptive_softmax", "dense_fixed_float32", "walsh", "hadamard"
        ),
        "loss and gradients, bfloat16": ("learned_bfloat16", "", "", "dense_fixed_bfloat16", "walsh_bfloat16", ""),
    }  # fmt: skip
    rows = {row: [ratios.get(f"{name}_loss") for name in names] for row, names in losses.items()}
    rows["whole training step, float32"] = [ratios[f"{layer}_float32_step"] for layer in layers]
    rows["whole training step, bfloat16"] = [ratios[f"{layer}_step"] for layer in layers]
    cells = {row: ["–" if each is None else f"{each:.1f}" for each in found] for row, found in rows.items()}
    cells["share of the LSTM in that step"] = [f"{shares[layer]['LSTM']:.0f} %" for layer in layers]
    outside = [shares[layer]["AdamW"] + shares[layer]["clipping"] for layer in layers]
    cells["share of AdamW and clipping"] = [f"{each:.0f} %" for each in outside]
    for row, found in cells.items():
        assert f"| {row} | {' | '.join(found)} |" in PAGES["docs/performance.md"]


def test_the_figures_of_bfloat16_are_those_of_the_benchmark() -> None:
    steps = BENCHMARKS["steps-256"]
    for layer, time in steps["microseconds_per_token"]["step"].items():
        ratio = steps["ratios"].get(f"{layer}_step")
        assert f"| {layer} | {time:,.0f} | {'1' if ratio is None else f'{ratio:.1f}'} |" in PAGES["docs/performance.md"]


def test_the_figures_of_a_wide_lstm_are_those_of_the_benchmark() -> None:
    layers = ("learned", "tied", "adaptive", "pmi", "walsh", "hadamard")
    names = "steps-512-threads2-torch-lstm", "steps-512-threads2"
    for row, name in zip(("`torch.lstm`", "our layer"), names, strict=True):
        cells = [f"{BENCHMARKS[name]['ratios'][f'{layer}_step']:.1f}" for layer in layers]
        assert f"| with {row} | {' | '.join(cells)} |" in PAGES["docs/performance.md"]
    before, after = (BENCHMARKS[name]["microseconds_per_token"]["step"] for name in names)
    text = " ".join(PAGES["docs/performance.md"].split())
    for layer in ("hadamard", "walsh"):
        assert f"`{layer}` {'went ' * (layer == 'hadamard')}from {before[layer]:.0f} to {after[layer]:.0f}" in text
    slower = after["plain torch, learned"] / before["plain torch, learned"] - 1
    assert f"was {100 * slower:.0f} % slower in the second run" in text


def test_the_figures_of_both_lstms_in_turns_are_those_of_the_benchmark() -> None:
    found = BENCHMARKS["lstm-512-threads2"]
    for row, by in (("`torch.lstm`", ", torch.lstm"), ("our layer", "")):
        layers = ("learned", "tied", "adaptive", "pmi", "walsh", "walsh of rank H/4", "hadamard")
        cells = [f"{found['ratios'][layer + by]:.1f}" for layer in layers]
        assert f"| with {row} | {' | '.join(cells)} |" in PAGES["docs/performance.md"]
    for kind in ("bfloat16", "float32"):
        cells = [f"{1 / row['ratio']:.2f}" for row in found["lstm"] if row["type"] == kind]
        assert f"| {kind} | {' | '.join(cells)} |" in PAGES["docs/performance.md"]


def test_the_times_of_steps_are_those_of_the_benchmark() -> None:
    rows = (
        ("AMD EPYC with AVX-512, nothing else on the machine", "steps-256-4096"),
        ("Intel Xeon with AMX, beside other programs", "steps-256-4096-amx"),
    )
    for row, name in rows:
        times = BENCHMARKS[name]["microseconds_per_token"]["step"]
        if name.endswith("amx"):  # beside other programs, which the ratios within a round bear
            times = {layer: 1 / BENCHMARKS[name]["ratios"][f"{layer}_step"] for layer in times if "plain" not in layer}
        layers = ("learned", "tied", "pmi", "walsh", "hadamard")
        cells = [f"{times[layer] / times['tied']:.2f}" if layer in times else "–" for layer in layers]
        assert f"| {row} | {' | '.join(cells)} |" in PAGES["docs/performance.md"]


def test_the_figures_of_matrices_are_those_of_their_logs() -> None:
    pmi, hadamard, cca = re.split("(?=method +(?:hadamard|cca))", (RESULTS / "build-512.txt").read_text())
    text = " ".join(PAGES["docs/layers.md"].split())
    (coherence, bound) = re.findall(r"coherence ([\d.]+), and the Welch bound is ([\d.]+)\.", text)[0]
    assert coherence in hadamard
    assert bound in hadamard
    (seconds,) = re.findall(r"the PMI matrix takes (\d+) s on two cores", text)
    (built_in,) = re.findall(r"built in +([\d.]+) s", pmi)
    assert seconds == f"{float(built_in):.0f}"
    (longest,) = re.findall(r"built in +([\d.]+) s", cca)
    assert f"| built with block Lanczos | {built_in} s | {longest} s |" in PAGES["docs/performance.md"]


@pytest.mark.parametrize("name", runs())
def test_a_committed_run_is_whole(name: str) -> None:
    summary = runs()[name]
    config, result, records = summary["config"], summary["result"], summary["metrics"]
    assert config["corpus"] == result["corpus"]
    assert config["data"]["data"] in ("wikitext-2", "sample")
    assert config["versions"]["torch"]
    assert summary["status"]["state"] == "done"
    assert any("validation perplexity" in line for line in summary["log"])
    assert not [line for line in summary["log"] if re.search(r"(^|\s)/", line)]  # no place of the machine
    scores = [record["validation"] for record in records if "validation" in record]
    assert min(scores, key=lambda score: score["nll"]) == result["valid"]
    assert records[-1]["step"] == result["steps"]
    assert 0 < len(records) - len(scores) <= POINTS


def test_the_table_of_the_most_likely_words_is_that_of_the_benchmark() -> None:
    few, many = json.loads((RESULTS / "benchmark" / "decoding.json").read_text())["decoding"]
    assert (few["V"], many["V"]) == (33_278, 1_000_000)
    for name, row in (("plain torch, learned", "plain torch"), ("walsh", "`walsh`"), ("hadamard", "`hadamard`")):
        faster = [f"{found['ratios'][name]:.1f}" if name in found["ratios"] else "1" for found in (few, many)]
        assert f"| {row} | {' | '.join(faster)} | {many['extra_memory_mb'][name]} |" in PAGES["docs/performance.md"]


def test_the_table_of_generation_is_that_of_the_benchmark() -> None:
    found = [row["generation"] for row in json.loads((RESULTS / "benchmark" / "decoding.json").read_text())["decoding"]]
    for name, shown in (("plain torch, learned", "plain torch"), ("walsh", "`walsh`"), ("hadamard", "`hadamard`")):
        cells = []
        for row in found:
            ratio = f"{row['ratios'][name]:.1f}" if name in row["ratios"] else "1"
            cells += [f"{1e6 / row['microseconds_per_token'][name]:,.0f}", ratio]
        assert f"| {shown} | {' | '.join(cells)} |" in PAGES["docs/performance.md"]


def test_what_the_page_says_of_steps_in_float32_is_that_of_the_benchmark() -> None:
    times = BENCHMARKS["avx2-steps-256-4096"]["microseconds_per_token"]["step"]
    ratios = (f"`{name}` {times[name] / times['tied']:.2f}" for name in ("pmi", "walsh", "adaptive", "hadamard"))
    assert f"has other ratios: {', '.join(ratios)} (" in " ".join(PAGES["docs/performance.md"].split())


def test_the_results_stay_small() -> None:
    files = [path for path in RESULTS.rglob("*") if path.is_file()]
    assert len(runs()) > 130
    assert len(files) < 200
    assert sum(path.stat().st_size for path in files) < 4_000_000


@pytest.mark.parametrize(("page", "fewest"), [("README.md", 3), ("docs/study_runs.md", 100)])
def test_every_result_that_a_page_links_is_there(page: str, fewest: int) -> None:
    links = set(re.findall(r"\]\(((?:\.\./)?results/[^)]*)\)", PAGES[page]))
    assert len(links) > fewest
    assert [link for link in links if not ((ROOT / page).parent / link).is_file()] == []


def test_every_figure_under_results_stands_on_a_page() -> None:
    pages = "".join(PAGES.values())
    figures = [path.relative_to(ROOT).as_posix() for path in RESULTS.rglob("*.png")]
    assert [figure for figure in figures if f"{figure})" not in pages] == []


def test_runs_in_pictures_were_validated_at_least_ten_times() -> None:
    # pieces.png has no curves: it shows where runs ended.
    curves = [path for path in RESULTS.rglob("*.png") if path.name != "pieces.png"]
    pictures = {path.parent for path in curves} - {RESULTS / "benchmark"}
    drawn = [run for name, run in runs().items() if (RESULTS / name).parent in pictures]
    assert 0 < len(drawn) <= 8 * len(pictures)
    for run in drawn:
        assert sum("validation" in record for record in run["metrics"]) >= 10
