"""The figures of docs/speedrun.md are those of results/speedrun."""

from __future__ import annotations

import json
import re
from statistics import mean
from typing import Any

import pytest
from pages import PAGES, ROOT

PAGE = PAGES["docs/speedrun.md"]
TEXT = " ".join(PAGE.split())
PLACE = ROOT / "results" / "speedrun"
CELLS = r"([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| (reached|missed) \| ([\d,]+) \| \[([\w-]+)\]"
RACES = re.findall(rf"^\| [A-G] \| .* \| {CELLS}", PAGE, re.MULTILINE)
PLAIN = {
    "plain": ("A", "100.3", "7,332,078"),
    "plain-2": ("B", "100.3", "7,332,078"),
    "plain-3": ("D", "100.3", "7,332,078"),
    "plain-4": ("E", "100.3", "7,332,078"),
    "plain-5": ("F", "100.3", "7,332,078"),
    "plain-6": ("G", "100.3", "7,332,078"),
    "plain-650": ("C", "86.7", "28,434,378"),
    "plain-650-2": ("D", "86.7", "28,434,378"),
    "plain-650-3": ("F", "86.7", "28,434,378"),
}
"""The machine on which the example was timed, the goal that its users report, and its parameters."""


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((PLACE / f"{name}.json").read_text())
    return found


def scores(race: str) -> list[float]:
    """Test perplexity of each seed, with n-grams where the race has them."""
    return [run.get("with_ngrams", run)["test"] for run in read(race)["runs"]]


def alone(race: str) -> float:
    """Test perplexity of the model alone."""
    return mean(run["test"] for run in read(race)["runs"])


def minutes(race: str) -> float:
    return mean(run["minutes"] for run in read(race)["runs"])


def beside(race: str) -> str:
    """The file of the example, as it was timed on the machine of a race and for its goal."""
    line = next(line for line in PAGE.splitlines() if f"[{race}]" in line)
    goal = f"{read(race)['target']:g}"
    (name,) = (name for name, (machine, own, _) in PLAIN.items() if (f"| {machine} |", own) == (line[:5], goal))
    return name


def times(race: str) -> str:
    """As fast as the example, to a whole number."""
    return f"{read(beside(race))['minutes_of_40_epochs'] / minutes(race):.0f}"


def test_every_race_stands_in_the_table() -> None:
    assert {path.stem for path in PLACE.glob("*.json")} == {*PLAIN, *(row[-1] for row in RACES)}


@pytest.mark.parametrize("row", RACES, ids=lambda row: row[-1])
def test_a_row_is_that_of_its_file(row: tuple[str, ...]) -> None:
    report = read(row[-1])
    line = next(line for line in PAGE.splitlines() if f"[{row[-1]}]" in line)
    assert report["processor"] == read(beside(row[-1]))["processor"]
    runs = report["runs"]
    valid = mean(run.get("with_ngrams", run)["valid"] for run in runs)
    assert row[:3] == (f"{minutes(row[-1]):.1f}", f"{valid:.1f}", f"{mean(scores(row[-1])):.1f}")
    assert row[3] == f"{alone(row[-1]):.1f}"
    assert row[4] == ("reached" if max(scores(row[-1])) <= report["target"] else "missed")
    assert row[5] == f"{runs[0]['trained_parameters']:,}"
    assert {run["summary"]["config"]["corpus"]["name"] for run in runs} == {"wikitext-2"}
    assert ("4-grams" in line) == all("with_ngrams" in run for run in runs)
    assert f"{len(runs)} seeds" in line or len(runs) == 1


@pytest.mark.parametrize("name", PLAIN)
def test_the_plain_program_is_that_of_its_file(name: str) -> None:
    plain = read(name)
    machine, reported, parameters = PLAIN[name]
    cells = f"{plain['minutes_of_40_epochs']:,.0f} | – | {reported}, as reported | – | – | {parameters} | [{name}]"
    assert re.search(rf"^\| {machine} \| .* \| {re.escape(cells)}", PAGE, re.MULTILINE)


def test_machines_are_those_of_the_files() -> None:
    for name, (machine, goal, _) in PLAIN.items():
        kind = read(name)["processor"].split(", ")[1].replace("AVX512", "AVX-512")
        epoch = f"{read(name)['minutes_an_epoch']:.1f}" if goal == "100.3" else r"[\d.–]+"
        assert re.search(rf"^\| {machine} \| {kind}[^|]* \| [^|]* \| {epoch} \|", PAGE, re.MULTILINE)


def test_what_training_md_says_of_ngrams() -> None:
    record, training = "ngrams-256-lags100", " ".join(PAGES["docs/training.md"].split())
    assert f"from {alone(record):.1f} to {mean(scores(record)):.1f}" in training


def test_what_the_pages_say_of_the_records() -> None:
    readme = " ".join(PAGES["README.md"].split())
    reached = [row[-1] for row in RACES if max(scores(row[-1])) <= read(row[-1])["target"] == 100.3]
    longer, fastest = "cca-512-epochs9", min(reached, key=minutes)
    record = min((race for race in reached if "with_ngrams" not in read(race)["runs"][0]), key=minutes)
    *most, last = (f"{test:.1f}" for test in scores(fastest))
    assert f"with 4-grams reaches this goal in {minutes(fastest):.1f} minutes**, the mean of three seeds." in TEXT
    assert f"They have {', '.join(most)} and {last} on test, and the model alone has {alone(fastest):.1f}." in TEXT
    assert f"That is {times(fastest)} times as fast as the example on the same machine. About half" in TEXT
    training = sum(run["training_minutes"] for run in read(fastest)["runs"])
    assert 0.45 < training / sum(run["minutes"] for run in read(fastest)["runs"]) < 0.6
    assert f"4-grams, has {mean(scores(fastest)):.1f} in {minutes(fastest):.1f} minutes**" in readme
    *most, last = (f"{test:.1f}" for test in scores(record))
    assert f"reaches the goal in {minutes(record):.1f} minutes**, the mean of three seeds, which have" in TEXT
    assert f"which have {', '.join(most)} and {last} on test." in TEXT
    assert f"That is {times(record)} times as fast as the example there." in TEXT
    assert f"4,096 rows, it has {mean(scores(record)):.1f} in {minutes(record):.1f} minutes." in readme
    assert f"some {read(beside(fastest))['minutes_of_40_epochs'] / 60:.0f} hours" in readme
    assert f"in some {read(beside(longer))['minutes_of_40_epochs'] / 60:.0f} hours" in readme
    assert f"4-grams has {mean(scores(longer)):.1f} in {minutes(longer):.1f} minutes." in readme


def test_what_the_pages_say_of_the_adaptive_softmax() -> None:
    ours, other = "cca-256-steps1160", "adaptive-256-ngrams"
    readme = " ".join(PAGES["README.md"].split())
    longer = minutes(other) / minutes(ours)
    assert f"took {minutes(other):.1f} minutes on F**, where `cca` in clusters took {minutes(ours):.1f} in" in TEXT
    assert f"That is {longer:.2f} times as long." in TEXT
    assert "So the layer with fixed rows saves a quarter of the minutes." in TEXT
    assert f"takes {longer:.1f} times as long as fixed rows in clusters" in " ".join(PAGES["docs/study.md"].split())
    assert 0.22 < 1 - 1 / longer < 0.28
    assert f"In an earlier race torch's adaptive softmax took {longer:.1f} times as long." in readme
    seconds = []
    for race, steps in ((ours, 1160), (other, 1600)):
        assert {run["summary"]["result"]["steps"] for run in read(race)["runs"]} == {steps}
        seconds.append(mean(60 * run["training_minutes"] / steps for run in read(race)["runs"]))
        assert f"{steps:,} steps ({steps * 2800 / 2088628:.1f} epochs)" in TEXT
    assert f"and each takes {seconds[1]:.2f} s in place of {seconds[0]:.2f} s." in TEXT
    mixed = [run["with_ngrams"] for row in RACES for run in read(row[-1])["runs"] if "with_ngrams" in run]
    below = [100 * (1 - each["test"] / each["valid"]) for each in mixed]
    assert 3.9 < min(below) < max(below) < 5
    assert all(alone(row[-1]) > read(row[-1])["target"] for row in RACES if "with_ngrams" in read(row[-1])["runs"][0])


def test_the_page_says_by_how_much_the_first_race_with_ngrams_missed() -> None:
    (test,) = scores("ngrams-256-epochs2")
    assert f"missed the goal by {test - 100.3:.2f}: its test perplexity is {test:.2f}." in TEXT


def test_the_wider_contexts_brought_nothing_at_384_units() -> None:
    (test,) = {f"{alone(race):.1f}" for race in ("clusters-384-epochs3", "lags-384-epochs3")}
    assert f"both races have {test} on test" in TEXT


def test_what_the_page_says_of_the_races_to_the_lower_goal() -> None:
    first, second, third = "ngrams-512-epochs12", "cca-512-epochs12", "cca-512-epochs9"
    missed = 100 * (scores(first)[0] / 86.7 - 1)
    assert f"The first race missed by {missed:.1f} %. It took {minutes(first):.1f} minutes" in TEXT
    assert f"a {times(first)}th of the example's time" in TEXT
    assert f"took {minutes(second):.1f} minutes, a {times(second)}st of the example's time there." in TEXT
    assert f"alone has {alone(second):.1f}, which misses the goal by {100 * (alone(second) / 86.7 - 1):.1f} %" in TEXT
    assert f"of the model alone falls by {100 * (1 - alone(second) / alone(first)):.1f} %" in TEXT
    *most, last = (f"{test:.1f}" for test in scores(third))
    assert f"reaches this goal in {minutes(third):.1f} minutes**, the mean of two seeds." in TEXT
    assert f"They have {', '.join(most)} and {last} on test, and the model alone has {alone(third):.1f}." in TEXT
    assert f"That is {times(third)} times as fast as the example on the same machine." in TEXT
    gaps = []
    for race, part in ((first, 5), (second, 10), (third, 15)):
        (epoch,) = read(beside(race))["epochs"]
        assert round(read(beside(race))["words_an_epoch"] / epoch["words"]) == part
        run = read(race)["runs"][0]
        late = [each["loss"] for each in run["summary"]["metrics"] if "loss" in each][-15:]
        gaps.append(run["summary"]["result"]["valid"]["nll"] - mean(late))
    assert f"is {gaps[0]:.2f} nats below the validation loss on C, and {gaps[1]:.2f} on D" in TEXT
    an_epoch = [f"{read(beside(race))['minutes_an_epoch']:.0f}" for race in (first, second, third)]
    assert "A whole epoch takes {}, {} and {} minutes".format(*an_epoch) in TEXT
    configs = [read(race)["runs"][0]["summary"]["config"] for race in (first, second)]
    assert configs[0]["data"] == configs[1]["data"]
    different = {key for key, value in configs[0]["optimization"].items() if configs[1]["optimization"][key] != value}
    assert different == {"recipe"}  # the name of the preset
    different = {key for key, value in configs[0]["model"].items() if configs[1]["model"][key] != value}
    assert different == {"output_embed", "input_start", "dropout"}
    rates = ("dropout_input", "dropout_between", "dropout_output")  # beside which --dropout is not read
    assert all(config["model"][rate] is not None for config in configs for rate in rates)
