"""The n-gram model is the one of its equation, and its mixture is what the command and a training report."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import train

from fixlm import cli
from fixlm.errors import InputError
from fixlm.evaluation import ngrams, perplexity
from fixlm.evaluation.cache_tuning import choose as choose_cache
from fixlm.evaluation.continuous_cache import CacheSettings
from fixlm.evaluation.ngrams import KneserNey, NgramMixture
from fixlm.evaluation.run import Run, load
from fixlm.training.fit import fit


@pytest.fixture(scope="module")
def path(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ngrams") / "run"
    assert train(*small, "--output-embed", "tied", "--run", str(path), "--ngram-order", "3") == 0
    return path


@pytest.fixture(scope="module")
def run(path: Path) -> Run:
    return load(path)


class Plain:
    """The same model with dictionaries, as the equation is written."""

    def __init__(self, ids: list[int], vocabulary_size: int, order: int) -> None:
        self.size, self.order = vocabulary_size, order
        grams = [tuple(ids[start : start + order]) for start in range(len(ids) - order + 1)]
        self.counts = {order: Counter(grams)}
        for length in range(order - 1, 0, -1):
            self.counts[length] = Counter(gram[1:] for gram in self.counts[length + 1])
        self.discounts = {length: self.discount(counts) for length, counts in self.counts.items()}

    @staticmethod
    def discount(counts: Counter[tuple[int, ...]]) -> list[float]:
        of = Counter(counts.values())
        found = [0.0]
        for c in (1, 2, 3):
            if of[1] and of[c]:
                found.append(c - (c + 1) * of[1] / (of[1] + 2 * of[2]) * of[c + 1] / of[c])
            else:
                found.append(c / 2)
            if not 0 < found[c] < c:
                found[c] = c / 2
        return found

    def p(self, word: int, context: tuple[int, ...]) -> float:
        length = len(context) + 1
        counts, taken = self.counts[length], self.discounts[length]
        shorter = self.p(word, context[1:]) if context else 1 / self.size
        after = [count for gram, count in counts.items() if gram[:-1] == context]
        if not after:
            return shorter
        count = counts[*context, word]
        left_over = sum(taken[min(each, 3)] for each in after)
        return (count - taken[min(count, 3)] + left_over * shorter) / sum(after)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("tokens", [5, 60, 400])
def test_probabilities_are_those_of_the_equation(order: int, tokens: int) -> None:
    draw = np.random.default_rng(order)
    text, other = (draw.zipf(1.5, size).clip(max=9) - 1 for size in (tokens, 50))
    expected = Plain(text.tolist(), 9, order)
    found = KneserNey(text, 9, order).log_probability(other)
    by_hand = [
        math.log(expected.p(other[at], tuple(other[max(0, at - order + 1) : at].tolist()))) for at in range(1, 50)
    ]
    np.testing.assert_allclose(found, by_hand, rtol=1e-9)


def test_probabilities_of_all_words_add_up_to_one_after_any_context() -> None:
    text = np.random.default_rng(1).integers(0, 7, 200)
    model = KneserNey(text, 8, 3)  # the word 7 never occurs
    for context in ([0, 1], [6, 7], [7, 7]):
        logs = [model.log_probability(np.array([*context, word]))[-1] for word in range(8)]
        assert np.exp(logs).sum() == pytest.approx(1)
        assert min(logs) > -math.inf


def test_ids_of_a_large_vocabulary_keep_apart() -> None:
    """Sixteen bits an id fill the number that holds four of them."""
    text = np.array([2**16 - 1, 2**16 - 2, 0, 1] * 6)
    logs = KneserNey(text, 2**16, 4).log_probability(text)
    assert (logs[2:] > math.log(0.5)).all()
    assert KneserNey(text, 2**16, 4).log_probability(text[::-1].copy()).max() < math.log(0.5)


def test_an_order_that_does_not_fit_is_refused(run: Run) -> None:
    with pytest.raises(
        InputError,
        match=r"--ngram-order: too long for a vocabulary of 12 and .* tokens \(found 99, expected at most 16\)",
    ):
        ngrams.count(run.corpus, 99)


def nats(run: Run, **mixed: Any) -> np.ndarray:
    """Of each target of the valid split, as a score adds them up."""
    windows = perplexity._windows(run.model, run.corpus.splits["valid"], **mixed)
    return torch.cat(list(windows)).double().numpy()


def test_the_scores_are_those_of_the_mixture(run: Run) -> None:
    mixture = NgramMixture(ngrams.count(run.corpus, 3), 0.3)
    stream = run.corpus.splits["valid"]
    alone = perplexity.target_nats(run.model, run.corpus, "valid").astype(np.float64)
    logs = mixture.counted.log_probability(stream).numpy()
    expected = -np.log(0.7 * np.exp(-alone) + 0.3 * np.exp(logs))
    found = nats(run, ngrams=mixture)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(mixture.mix(alone, stream), expected, rtol=1e-9)
    total = perplexity.evaluate(run.model, run.corpus, "valid", ngrams=mixture).total_nats
    assert total == pytest.approx(expected.sum(), rel=1e-6)


def test_an_order_below_one_is_refused(run: Run) -> None:
    with pytest.raises(InputError, match="order: an n-gram has a word at least"):
        ngrams.count(run.corpus, 0)


def test_a_cache_is_mixed_in_after_the_ngrams(run: Run) -> None:
    mixture = NgramMixture(ngrams.count(run.corpus, 2), 0.5)
    cache = CacheSettings(50, 0.0, 0.2)
    first, both = nats(run, ngrams=mixture), nats(run, cache=cache, ngrams=mixture)
    from_cache = np.exp(-nats(run, cache=cache)) - 0.8 * np.exp(-nats(run))
    np.testing.assert_allclose(np.exp(-both[1:]), (0.8 * np.exp(-first) + from_cache)[1:], rtol=1e-3, atol=1e-6)


def test_what_is_chosen_is_the_best_of_the_grid(run: Run) -> None:
    counted = ngrams.count(run.corpus, 3)
    nats = perplexity.target_nats(run.model, run.corpus, "valid")
    chosen = ngrams.choose(counted, nats, run.corpus)
    totals = [NgramMixture(counted, weight).mix(nats, run.corpus.splits["valid"]).sum() for weight in ngrams.WEIGHTS]
    assert ngrams.WEIGHTS[int(np.argmin(totals))] == chosen.weight > 0


def test_an_order_that_does_not_fit_is_refused_before_the_training(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert train(*small, "--output-embed", "tied", "--run", str(run), "--ngram-order", "99") == 2
    assert "--ngram-order: too long for a vocabulary of 12" in capsys.readouterr().err
    assert not (run / "checkpoints").exists()


def test_a_run_that_is_finished_says_how_it_is_mixed(
    path: Path, small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*small, "--output-embed", "tied", "--run", str(path)]
    for order, said in ((2, True), (3, False), (0, False)):
        assert train(*flags, "--ngram-order", str(order)) == 0
        captured = capsys.readouterr()
        assert ("--ngram-order 2 --ngram-tune scores it so." in captured.err) == said
        assert "this run with 3-grams (λ " in captured.out


def test_a_training_that_goes_on_keeps_its_order(small: list[str], tmp_path: Path) -> None:
    named = {flag.lstrip("-").replace("-", "_"): value for flag, value in zip(small[::2], small[1::2], strict=True)}
    flags = {"output_embed": "tied", "run": str(tmp_path / "run"), **named}
    fit(**flags, ngram_order=2)
    (tmp_path / "run" / "result.json").unlink()
    assert fit(run=flags["run"], resume=True).directory.read_result()["with_ngrams"]["order"] == 2
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(InputError, match=r"differs from the run to resume .found awd, expected fast"):
        fit(run=flags["run"], resume=True, preset="awd")  # by another name of the flag
    assert fit(run=flags["run"], resume=True, ngram_order=3).directory.read_result()["with_ngrams"]["order"] == 3


def test_a_training_reports_its_scores_with_and_without(path: Path, run: Run) -> None:
    result = json.loads((path / "result.json").read_text())
    mixture = ngrams.choose(
        ngrams.count(run.corpus, 3), perplexity.target_nats(run.model, run.corpus, "valid"), run.corpus
    )
    found = result["with_ngrams"]
    assert {name: found[name] for name in ("order", "lambda")} == mixture.to_json()
    assert found["order"] == 3
    for split in ("valid", "test"):
        expected = perplexity.evaluate(run.model, run.corpus, split, ngrams=mixture).perplexity
        assert found[split]["perplexity"] == pytest.approx(expected, rel=1e-6)
    assert found["valid"]["perplexity"] < result["valid"]["perplexity"]
    assert result["test"]["perplexity"] == pytest.approx(run.perplexity("test"), rel=1e-6)


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert cli.main(["evaluate", *arguments, "--threads", "1"]) == 0
    return capsys.readouterr().out


def test_the_command_says_which_ngrams(path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [str(path), "--ngram-order", "3", "--ngram-lambda", "0.3"]
    assert " with 3-grams (λ 0.3), " in evaluated(capsys, *flags)
    scored = json.loads(evaluated(capsys, *flags, "--json"))
    assert scored["ngrams"] == {"order": 3, "lambda": 0.3}
    mixture = NgramMixture(ngrams.count(run.corpus, 3), 0.3)
    expected = perplexity.evaluate(run.model, run.corpus, "test", ngrams=mixture)
    assert scored["perplexity"] == pytest.approx(expected.perplexity, rel=1e-6)


def test_the_command_chooses_both_on_valid(path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [str(path), "--ngram-order", "2", "--ngram-tune", "--cache-size", "60", "--cache-tune"]
    line = evaluated(capsys, *flags)
    assert line.count("), chosen on valid") == 2
    found = json.loads(evaluated(capsys, *flags, "--json"))
    result = json.loads((path / "result.json").read_text())
    mixture = NgramMixture(ngrams.count(run.corpus, 2), found["ngrams"]["lambda"])
    assert found["cache"] == choose_cache(run.model, run.corpus, 60, ngrams=mixture).to_json()
    assert found["perplexity"] < result["test"]["perplexity"]


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ("--ngram-order -1", "--ngram-order: out of range (found -1, expected a whole number at least 0)."),
        (
            "--ngram-order 3 --ngram-lambda 1",
            "--ngram-lambda: out of range (found 1, expected a number at least 0 and below 1).",
        ),
        (
            "--ngram-order 3 --split train",
            "--ngram-order: n-grams are counted on the train split, and know what comes next in it. "
            "Fix: --split valid or --split test",
        ),
        ("--ngram-tune", "--ngram-tune: there are no n-grams (found --ngram-order 0). Fix: add --ngram-order 4"),
        (
            "--ngram-order 3 --ngram-tune --ngram-lambda 0.2",
            "--ngram-lambda: --ngram-tune chooses it. Fix: drop one of the two",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(flags: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", "nowhere", *flags.split()]) == 2
    assert capsys.readouterr().err == f"fixlm: error: {line}\n"
