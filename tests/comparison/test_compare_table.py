"""Tables and plots of runs that are there, from directories and from summaries as under results/."""

from __future__ import annotations

import csv
import importlib.util
import itertools
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from matplotlib.text import Text

from fixlm import cli
from fixlm.comparison import curves, plots
from fixlm.comparison.find_runs import discover
from fixlm.comparison.grid import read_grid
from fixlm.comparison.plan import Plan, Setting
from fixlm.comparison.rows import Row, best_by_validation, mean_and_deviation, sort_rows
from fixlm.comparison.table import markdown
from fixlm.errors import InputError
from fixlm.runs.status import Status, write_status
from fixlm.runs.summary import add_summaries, read_summary, summarise, write_summary

pytestmark = pytest.mark.slow

RESULTS = Path(__file__).parents[2] / "results"
OLD = ("--cross-fit", "0", "--pmi-window", "5", "--pmi-context", "symmetric")
"""The runs of these tests are older than folds, and count contexts as was done then."""
BANDS = [
    {"lowest": 0, "highest": 9, "words": 5, "targets": 10, "total_nats": 80.0},
    {"lowest": 10_000, "highest": None, "words": 3, "targets": 20, "total_nats": 40.0},
]


def commit(path: Path, seed: int = 1, valid: float = 200.0, layer: str = "pmi", lr: float = 0.006, **more: Any) -> Path:
    """A run directory without checkpoints: a run of ``results``, with other numbers and today's defaults."""
    path.mkdir(parents=True)
    source = read_summary(RESULTS / f"wikitext-2-{layer}-256-seed1.json")
    config, result = source["config"], source["result"]
    config["optimization"] |= {"seed": seed, "lr": lr}
    config["model"]["dropout"] = 0.1
    for method, option in (("pmi", "discount"), ("walsh", "pmi_discount")):
        config["matrices"].get(method, {})[option] = 1.0
    result["valid"]["perplexity"], result["test"]["perplexity"] = valid, valid - 10
    (path / "config.json").write_text(json.dumps(config))
    (path / "result.json").write_text(json.dumps(result | more))
    (path / "metrics.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in source["metrics"]))
    (path / "log.txt").write_text("".join(f"{line}\n" for line in source["log"]))
    return path


def tabulate(directory: Path, *flags: str) -> int:
    return cli.main(["compare", str(directory), "--table-only", *flags])


def table(directory: Path) -> dict[str, Any]:
    return {row["setting"]: row for row in json.loads((directory / "table.json").read_text())["rows"]}


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    for seed, valid in ((1, 201.25), (2, 203.0), (3, 208.5)):
        commit(tmp_path / f"pmi-seed{seed}", seed, valid, test_by_frequency=BANDS)
    commit(tmp_path / "tied-seed1", 1, 190.0, "tied")
    return tmp_path


def test_mean_and_standard_deviation_over_seeds(grid: Path) -> None:
    assert tabulate(grid) == 0
    mean = (201.25 + 203.0 + 208.5) / 3
    deviation = math.sqrt(sum((value - mean) ** 2 for value in (201.25, 203.0, 208.5)) / 2)
    text = (grid / "table.md").read_text()
    assert f"| {mean:.1f} ± {deviation:.1f} | {mean - 10:.1f} ± {deviation:.1f} | [1](pmi-seed1/log.txt), [2](" in text
    assert "| 190.0 | 180.0 | [1](tied-seed1/log.txt) |" in text  # one seed has no deviation
    pmi = table(grid)["pmi"]
    assert pmi["valid"]["mean"] == pytest.approx(mean, rel=1e-15)
    assert pmi["valid"]["sd"] == pytest.approx(deviation, rel=1e-14)
    assert (pmi["n"], pmi["of"]) == (3, 3)
    assert [run["valid"] for run in pmi["runs"]] == [201.25, 203.0, 208.5]
    assert table(grid)["tied"]["valid"]["sd"] is None
    with open(grid / "table.csv", newline="") as file:
        lines = [*csv.DictReader(file)]
    assert [(line["setting"], line["seed"], line["valid"]) for line in lines] == [
        ("tied", "1", "190.0"), ("pmi", "1", "201.25"), ("pmi", "2", "203.0"), ("pmi", "3", "208.5"),
    ]  # fmt: skip
    assert float(lines[1]["valid_mean"]) == pmi["valid"]["mean"]


def test_mean_and_deviation_of_what_overflowed_or_is_missing() -> None:
    assert mean_and_deviation([]) == (None, None)
    assert mean_and_deviation([3.0]) == (3.0, None)
    assert mean_and_deviation([3.0, math.inf]) == (math.inf, None)


def test_the_committed_results_make_a_table(tmp_path: Path) -> None:
    paths = [*RESULTS.glob("*-seed1.json")]
    for path in paths:
        shutil.copy(path, tmp_path)
    assert tabulate(tmp_path) == 0
    text = (tmp_path / "table.md").read_text()
    for path in paths:
        result = read_summary(path)["result"]
        start = f"| [{path.stem.removesuffix('-seed1')}]({path.name}) |"
        (line,) = [line for line in text.splitlines() if line.startswith(start)]
        assert f"| [1]({path.name}) |" in line
        for number in (f"{result['parameters']['output_trainable']:,}", f"{result['test']['perplexity']:.1f}"):
            assert f"| {number} |" in line
    assert "| word frequencies alone (wikitext-2) | – | – | – | 965.1 | 911.7 |" in text
    assert "- Rows are of different texts, or cut otherwise, and are sorted apart." in text
    assert "- The plots show rows of one text only, and so not sample-pmi-512." in text
    assert "- Whether these were trained one at a time is not recorded: " in text


def test_summaries_make_the_same_table_and_plots_as_their_runs(grid: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    assert tabulate(grid) == 0
    for path in grid.glob("*-seed*"):
        write_summary(kept / f"{path.name}.json", summarise(path))
    assert tabulate(kept) == 0
    for name in ("table.md", "table.csv"):
        assert (kept / name).read_text().replace(".json", "") == ((grid / name).read_text().replace("/log.txt", ""))
    for name in plots.PLOTS:  # there are no more records than a summary keeps
        assert (kept / name).read_bytes() == (grid / name).read_bytes()


def test_summaries_in_one_file_make_the_same_table(grid: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    assert tabulate(grid) == 0
    add_summaries(kept / "runs.jsonl", {path.name: summarise(path) for path in grid.glob("*-seed*")})
    assert tabulate(kept) == 0
    assert (kept / "table.csv").read_text() == (grid / "table.csv").read_text()
    assert "| [tied](runs.jsonl) |" in (kept / "table.md").read_text()
    lines = (kept / "runs.jsonl").read_text().splitlines()
    for added, message in (
        ('{"run": "cut', "not the summary of a run"),
        (lines[0], "this run is there twice"),
        (lines[0].replace(json.loads(lines[0])["run"], "../a"), "no name of a run"),
    ):
        (kept / "runs.jsonl").write_text("\n".join([*lines, added]))
        with pytest.raises(InputError, match=f"runs.jsonl, line {len(lines) + 1}: {message}"):
            discover(kept)


def test_only_summaries_that_can_be_read_and_have_no_directory_are_found(grid: Path) -> None:
    write_summary(grid / "pmi-seed1.json", summarise(grid / "pmi-seed1"))  # its run directory goes before it
    (grid / "broken-seed1.json").write_text("{}")
    rows, notes = discover(grid)
    assert {row.name: [run.path.name for run in row.runs] for row in rows} == {
        "pmi": ["pmi-seed1", "pmi-seed2", "pmi-seed3"], "tied": ["tied-seed1"],
    }  # fmt: skip
    (note,) = notes
    assert note.startswith("broken-seed1.json is left out: ")


def test_a_plan_finds_the_summaries_of_its_runs(grid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in grid.glob("*-seed*"):
        write_status(path / "status.json", Status("done", runs_at_a_time=2))
        write_summary(grid / f"{path.name}.json", summarise(path))
        shutil.rmtree(path)
    flags = ["--output-embed", "pmi,tied", "--seed", "1,2", "--data", "elsewhere", "--lr", "0.006", *OLD]
    assert tabulate(grid, *flags, "--hidden-size", "256", "--embed-size", "256") == 0
    assert (table(grid)["pmi"]["n"], table(grid)["tied"]["n"]) == (2, 1)
    add_summaries(grid / "runs.jsonl", {path.stem: read_summary(path) for path in grid.glob("*-seed*.json")})
    for path in grid.glob("*-seed*.json"):
        path.unlink()
    assert tabulate(grid, *flags, "--hidden-size", "256", "--embed-size", "256") == 0
    assert (table(grid)["pmi"]["n"], table(grid)["tied"]["n"]) == (2, 1)
    assert "- Trained 2 at a time, so their speeds compare nothing: " in (grid / "table.md").read_text()
    assert tabulate(grid, *flags, "--hidden-size", "256", "--embed-size", "64") == 2
    assert "runs.jsonl, pmi-seed1: a run of other settings is there" in capsys.readouterr().err


def test_a_grid_that_is_partly_done_says_what_is_missing(grid: Path) -> None:
    (grid / "pmi-seed2" / "result.json").unlink()
    wanted = ["--output-embed", "pmi,tied,walsh", "--seed", "1,2,3", "--hidden-size", "256", "--embed-size", "256"]
    assert tabulate(grid, *wanted, "--lr", "0.006", "--data", "elsewhere", *OLD) == 0
    text = (grid / "table.md").read_text()
    assert "[2](pmi-seed2/log.txt) (not finished)" in text
    assert "[1](tied-seed1/log.txt), 2 (not started), 3 (not started)" in text
    assert "| walsh | – | – | – | not started | not started | 1 (not started), " in text
    assert table(grid)["pmi"]["n"] == 2
    assert table(grid)["pmi"]["valid"]["mean"] == pytest.approx((201.25 + 208.5) / 2)
    assert not (grid / "plan.json").exists()


def test_a_table_of_other_settings_is_refused(grid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tabulate(grid, "--output-embed", "pmi,tied", "--hidden-size", "256", "--embed-size", "64", *OLD) == 2
    error = capsys.readouterr().err
    assert f"{grid}/pmi-seed1: a run of other settings is there (found --embed-size 256, not 64)" in error


def test_a_run_whose_vectors_are_gone_is_in_the_table(grid: Path) -> None:
    settings = [{"name": "pmi", "flags": {"output-embed": "gone.txt"}}]
    (grid / "plan.json").write_text(json.dumps({"settings": settings}))
    assert tabulate(grid) == 0
    assert table(grid)["pmi"]["n"] == 1


def test_speeds_that_compare_nothing_are_named(grid: Path) -> None:
    (grid / "tied-seed1" / "status.json").write_text('{"state": "done", "runs_at_a_time": 1}')
    (grid / "pmi-seed1" / "status.json").write_text('{"state": "done", "runs_at_a_time": 3, "later": []}')
    (grid / "pmi-seed2" / "status.json").write_text('{"state": "done", "runs_at_a_time": "thr')  # cut
    assert tabulate(grid) == 0
    text = (grid / "table.md").read_text()
    assert "- Trained 3 at a time, so their speeds compare nothing: pmi-seed1." in text
    assert "- Whether these were trained one at a time is not recorded: pmi-seed2, pmi-seed3." in text


def test_a_damaged_directory_is_left_out_and_named(grid: Path) -> None:
    (grid / "broken").mkdir()
    (grid / "broken" / "config.json").write_text("{")
    assert tabulate(grid) == 0
    assert "- broken is left out: " in (grid / "table.md").read_text()


def test_the_best_of_each_layer_is_chosen_by_validation_among_whole_rows(tmp_path: Path) -> None:
    for lr, valid in ((0.003, 220.0), (0.006, 210.0), (0.01, 230.0)):
        commit(tmp_path / f"pmi-lr{lr}-seed1", 1, valid, lr=lr)
    commit(tmp_path / "tied-lr0.003-seed1", 1, 190.0, "tied", lr=0.003)
    (commit(tmp_path / "pmi-lr0.1-seed1", 1, 10.0, lr=0.1) / "result.json").unlink()
    assert tabulate(tmp_path, "--best-by", "output-embed") == 0
    best = json.loads((tmp_path / "best.json").read_text())["rows"]
    assert [row["setting"] for row in best] == ["tied-lr0.003", "pmi-lr0.006"]
    rows, _ = discover(tmp_path)
    fast = best_by_validation(rows, lambda row: row.flags["--lr"] > 0.005)
    assert [row.name for row in fast] == ["tied-lr0.003", "pmi-lr0.006"]


def test_the_best_rows_are_those_of_each_text_and_of_the_last_command(tmp_path: Path) -> None:
    commit(tmp_path / "pmi-seed1", 1, 210.0)
    other = commit(tmp_path / "other-text-seed1", 1, 20.0)
    config = json.loads((other / "config.json").read_text())
    config["corpus"]["sha256"] = "0" * 64
    (other / "config.json").write_text(json.dumps(config))
    assert tabulate(tmp_path, "--best-by", "output_embed") == 0
    assert {row["setting"] for row in json.loads((tmp_path / "best.json").read_text())["rows"]} == {"pmi", "other-text"}
    assert tabulate(tmp_path) == 0
    assert not [*tmp_path.glob("best.*")]


@pytest.mark.parametrize("flag", ["threads", "validate-every", "ngram-order"])
def test_rows_are_not_grouped_by_what_changes_nothing(
    flag: str, grid: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tabulate(grid, "--best-by", flag) == 2
    assert f"--best-by: unknown flag '{flag}'" in capsys.readouterr().err


def test_scores_with_ngrams_stand_in_columns_of_their_own(grid: Path) -> None:
    assert tabulate(grid) == 0
    assert "n-grams" not in (grid / "table.md").read_text()
    mixed = {split: {"perplexity": value} for split, value in (("valid", 180.25), ("test", 170.5))}
    commit(grid / "mixed-seed1", 1, 199.0, lr=0.1, with_ngrams={"order": 4, "lambda": 0.1, **mixed})
    assert tabulate(grid) == 0
    header, *lines = (grid / "table.md").read_text().splitlines()
    assert "| valid | test | valid with n-grams | test with n-grams |" in header
    (line,) = (line for line in lines if line.startswith("| [mixed]"))
    assert "| 199.0 | 189.0 | 180.2 | 170.5 |" in line
    row = table(grid)["mixed"]
    assert (row["valid"]["mean"], row["valid_with_ngrams"]["mean"]) == (199.0, 180.25)
    assert table(grid)["tied"]["test_with_ngrams"]["mean"] is None
    commit(grid / "mixed-seed2", 2, 199.0, lr=0.1)
    assert tabulate(grid) == 0
    assert "180.2 (1 of 2 seeds)" in (grid / "table.md").read_text()


def test_the_same_run_twice_is_no_second_seed(tmp_path: Path) -> None:
    for name in ("one", "other"):
        commit(tmp_path / name)
    assert tabulate(tmp_path) == 0
    assert {name: row["n"] for name, row in table(tmp_path).items()} == {"one": 1, "other": 1}


def test_a_perplexity_that_overflowed_is_inf_to_read_and_nothing_in_json(grid: Path) -> None:
    commit(grid / "walsh-seed1", 1, math.inf, "walsh")
    result = json.loads((grid / "walsh-seed1" / "result.json").read_text())
    result["valid"]["perplexity"] = None
    (grid / "walsh-seed1" / "result.json").write_text(json.dumps(result))
    commit(grid / "walsh-seed2", 2, 200.0, "walsh")
    assert tabulate(grid) == 0
    row = table(grid)["walsh"]
    assert (row["valid"], row["n"]) == ({"mean": None, "sd": None}, 2)
    assert [run["valid"] for run in row["runs"]] == [None, 200.0]
    assert "| inf | inf | [1](walsh-seed1/log.txt), [2](walsh-seed2/log.txt) |" in (grid / "table.md").read_text()
    with open(grid / "table.csv", newline="") as file:
        *_, first, second = csv.DictReader(file)
    assert (first["valid"], second["valid"], second["valid_mean"], second["valid_sd"]) == ("inf", "200.0", "inf", "")
    assert first["steps"] == str(result["steps"])


def test_names_are_safe_in_a_table(grid: Path) -> None:
    rows, _ = discover(grid)
    text = markdown([Row("a|b [c]", rows[0].runs)], grid)
    assert "| [a\\|b \\[c\\]](pmi-seed1) |" in text


def test_plots_are_written_and_the_same_each_time(grid: Path) -> None:
    assert tabulate(grid) == 0
    before = {name: (grid / name).read_bytes() for name in plots.PLOTS}
    assert all(content.startswith(b"\x89PNG\r\n\x1a\n") and len(content) > 5000 for content in before.values())
    assert tabulate(grid) == 0
    assert before == {name: (grid / name).read_bytes() for name in plots.PLOTS}
    text = (grid / "table.md").read_text()
    assert "- Not in frequency.png, since their results have no perplexity by word frequency: tied-seed1." in text
    for seed in (1, 2, 3):
        shutil.rmtree(grid / f"pmi-seed{seed}")
    assert tabulate(grid) == 0  # nothing is left that has α or bands: no plot of what is gone stays
    assert {path.name for path in grid.glob("*.png")} == {"valid-tokens.png", "valid-seconds.png", "losses.png"}


def test_what_the_plots_show(grid: Path) -> None:
    rows = sort_rows(discover(grid)[0])
    records = [json.loads(line) for line in (grid / "pmi-seed1" / "metrics.jsonl").read_text().splitlines()]
    training = [record for record in records if "loss" in record]
    (validation,) = [record for record in records if "validation" in record]

    figure = plots.losses(rows)
    assert figure is not None
    left, right = figure.axes
    assert (left.get_title(), right.get_title()) == ("training, with dropout", "validation")
    assert (left.get_xlabel(), left.get_ylabel()) == ("tokens trained on", "loss, nats a token")
    assert not figure.legends
    assert labels(left) == {}
    assert labels(right) == {"tied": left.lines[0].get_color(), "pmi": left.lines[4].get_color()}
    assert len(left.lines) == len(right.lines) == 1 + 3 + 1  # tied; three seeds and their mean
    for line in left.lines[1:]:  # all alike here, and so their mean is the same
        assert [*line.get_xdata()] == [record["step"] * 2800 for record in training]
        assert [*line.get_ydata()] == pytest.approx([record["loss"] for record in training])
    assert [*right.lines[1].get_ydata()] == [validation["validation"]["nll"]]
    assert left.lines[0].get_color() != left.lines[1].get_color()

    figure = plots.alpha_by_steps(rows)
    assert figure is not None
    (panel,) = figure.axes
    assert (panel.get_xscale(), panel.get_xlabel(), panel.get_ylabel()) == ("log", "steps", "α")
    assert len(panel.lines) == 4  # tied has no α
    assert [*panel.lines[0].get_ydata()] == [record["alpha"] for record in training]

    figure = plots.valid_by_tokens(rows)
    assert figure is not None
    assert [*figure.axes[0].lines[1].get_xdata()] == [745 * 2800]
    assert [*figure.axes[0].lines[1].get_ydata()] == [validation["validation"]["perplexity"]]

    figure = plots.valid_by_seconds(rows)
    assert figure is not None
    assert figure.axes[0].get_xlabel() == "seconds of training steps"
    result = json.loads((grid / "pmi-seed1" / "result.json").read_text())
    assert [*figure.axes[0].lines[1].get_xdata()] == pytest.approx([result["seconds"]], rel=0.01)

    figure = plots.by_frequency(rows)
    assert figure is not None
    (panel,) = figure.axes
    assert [label.get_text() for label in panel.get_xticklabels()] == ["0–9", "10,000 and more"]
    assert [*panel.lines[0].get_ydata()] == pytest.approx([math.exp(8), math.exp(2)])


def labels(panel: Any) -> dict[str, str]:
    """The names that stand at the ends of lines, with their colours."""
    return {text.get_text().replace("\n", " "): text.get_color() for text in panel.texts}


def test_the_best_eight_rows_have_colour_and_name_and_the_others_are_grey(tmp_path: Path) -> None:
    for place in range(11):
        commit(tmp_path / f"pmi-lr0.{place + 10}-seed1", 1, 200.0 + place, lr=float(f"0.{place + 10}"))
    rows = sort_rows(discover(tmp_path)[0])
    figure = plots.losses(rows)
    assert figure is not None
    shown = labels(figure.axes[-1])
    assert {*shown} == {*(row.name for row in rows[:8]), "3 more rows"}
    assert len(set(shown.values())) == 9
    grey = [line for line in figure.axes[-1].lines if line.get_gid() == "other"]
    assert [line.get_label() for line in grey] == [f"_{row.name}" for row in rows[8:]]
    assert len({line.get_color() for line in grey}) == 1


def test_runs_that_were_validated_at_other_steps_have_a_mean(grid: Path) -> None:
    """As where the length of the windows varies with the seed."""
    for seed in (1, 2, 3):
        path = grid / f"pmi-seed{seed}" / "metrics.jsonl"
        records = map(json.loads, path.read_text().splitlines())
        path.write_text("".join(f"{json.dumps(each | {'step': each['step'] - seed})}\n" for each in records))
    assert tabulate(grid) == 0
    assert (grid / "valid-tokens.png").exists()


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([([1, 2], [10, 20]), ([3, 4], [20, 40])], ([2, 3], [15, 30])),
        ([([1, 2, 3], [10, 20, 30]), ([0, 2], [0, 40])], ([1, 2], [15, 30])),
        ([([5, 6], [1, 2]), ([1], [3])], ([], [])),
    ],
    ids=["as many points", "read between", "nothing in common"],
)
def test_the_mean_of_lines(lines: list[curves.Line], expected: curves.Line) -> None:
    assert curves.mean(lines) == expected


def test_plots_that_fail_cost_no_table(grid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(plots, "draw", fails)
    with pytest.raises(ZeroDivisionError):
        tabulate(grid)
    assert (grid / "table.md").exists()


def test_labels_do_not_overlap_and_keep_the_order_of_their_lines(tmp_path: Path) -> None:
    for place in range(8):
        commit(tmp_path / f"pmi-lr0.{place + 10}-seed1", 1, 200.0 + place / 10, lr=float(f"0.{place + 10}"))
    figure = plots.valid_by_tokens(sort_rows(discover(tmp_path)[0]))
    assert figure is not None
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts]
    boxes.sort(key=lambda box: box.y0)
    assert all(lower.y1 <= upper.y0 + 1 for lower, upper in itertools.pairwise(boxes))
    heights = {text.get_text(): Text.get_window_extent(text).y0 for text in figure.axes[0].texts}
    assert sorted(heights, key=heights.__getitem__) == [f"pmi-lr0.{place + 10}" for place in range(8)]


def test_several_rows_are_divided_by_the_best_in_the_plot_by_frequency(tmp_path: Path) -> None:
    for name, valid, nats in (("pmi-seed1", 200.0, 8.0), ("tied-seed1", 190.0, 7.0)):
        path = commit(tmp_path / name, 1, valid, name.partition("-")[0])
        result = json.loads((path / "result.json").read_text())
        band = {"lowest": 0, "highest": 9, "words": 5, "targets": 10, "total_nats": 10 * nats}
        (path / "result.json").write_text(json.dumps({**result, "test_by_frequency": [band]}))
    figure = plots.by_frequency(sort_rows(discover(tmp_path)[0]))
    assert figure is not None
    (panel,) = figure.axes
    assert panel.get_ylabel() == "test perplexity of these words, divided by that of tied"
    assert [[*line.get_ydata()] for line in panel.lines] == [[1.0], [pytest.approx(math.e)]]


def test_without_matplotlib_the_tables_are_written_all_the_same(grid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert tabulate(grid) == 0
    assert "- No plots, since matplotlib is not installed: pip install matplotlib" in (grid / "table.md").read_text()
    assert not [*grid.glob("*.png")]


def folders(given: dict[str, Any]) -> list[str]:
    return [setting.folder for setting in read_grid(given).settings]


def test_run_directories_are_named_by_what_varies() -> None:
    assert folders({"output-embed": "tied,pmi", "hidden-size": "16"}) == ["tied", "pmi"]
    assert folders({"output-embed": "pmi", "lr": "3e-3,0.006"}) == ["pmi-lr0.003", "pmi-lr0.006"]
    assert folders({"output-embed": "a/b c.txt,tied"}) == ["b-c.txt", "tied"]
    assert folders({"output-embed": "pmi", "normalize": [True, False]}) == ["pmi-normalize", "pmi-no-normalize"]
    assert folders({"output-embed": "pmi", "alpha": "none,1", "input-embed": "learned,fixed"}) == [
        "pmi-alpha-none-input-embed-learned", "pmi-alpha-none-input-embed-fixed",
        "pmi-alpha1-input-embed-learned", "pmi-alpha1-input-embed-fixed",
    ]  # fmt: skip
    assert Setting("pmi, α = 1", {}).folder == "pmi-alpha-1"


def test_the_options_of_a_matrix_vary_only_where_it_is_built(tmp_path: Path) -> None:
    given = {"output-embed": "tied,pmi,walsh", "pmi-window": "3,5", "walsh-families": "16"}
    assert folders(given) == ["tied", "pmi-pmi-window3", "pmi-pmi-window5", "walsh"]
    flags = [run.flags.get("walsh-families") for run in read_grid(given).runs(tmp_path)]
    assert flags == [None, None, None, "16"]
    starts = {"output-embed": "tied", "input-start": "random,pmi", "pmi-window": "3,5"}
    assert folders(starts) == [
        "tied-input-start-random",
        "tied-input-start-pmi-pmi-window3",
        "tied-input-start-pmi-pmi-window5",
    ]


def test_a_comma_in_a_value_is_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_grid({"data": "here\\,there,sample"}).settings[0].flags["data"] == "here,there"
    Path("here,there").mkdir()
    with pytest.raises(
        ValueError, match=r"--data: commas separate values, and a file has this name \(found here,there\)"
    ):
        read_grid({"data": "here,there"})


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan([]), "comparison: there is nothing to train (found 0 settings, 1 seeds)"),
        (Plan([Setting("a b", {}), Setting("A-B", {})]), "A-B: the runs would have the directories of 'a b'"),
        (Plan([Setting("a", {"learning-rate": 1})]), "--learning-rate: unknown flag 'learning-rate'"),
        (Plan([Setting("a", {"normalize": "no"})]), "--normalize: not of the right kind (found no, expected true or f"),
        (Plan([Setting("a", {"lr": True})]), "--lr: not of the right kind (found True, expected a value)"),
        (Plan([Setting("a", {"seed": 3})]), "--seed: unknown flag 'seed'"),
        (Plan([Setting("a", {})], seeds=(1, 1)), "--seed: not whole numbers, each once (found [1, 1])"),
    ],
)
def test_plans_that_are_refused(plan: Plan, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        plan.runs(tmp_path)
    assert str(error.value).startswith(message)
