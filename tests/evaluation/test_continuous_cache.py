"""The continuous cache: the fast scores are those of the equation, and no future word is in them."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import train

from fixlm import cli
from fixlm.corpus.corpus import Corpus
from fixlm.evaluation import cache_tuning, continuous_cache, perplexity
from fixlm.evaluation.continuous_cache import CacheSettings, ContinuousCache
from fixlm.evaluation.run import load
from fixlm.model.language_model import LanguageModel


@pytest.fixture(scope="module")
def run(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cache-run") / "run"
    assert train(*small, "--output-embed", "tied", "--run", str(path)) == 0
    return path


@pytest.fixture(scope="module")
def opened(run: Path) -> tuple[LanguageModel, Corpus]:
    opened = load(run)
    return opened.model, opened.corpus


@torch.no_grad()
def reference(model: LanguageModel, stream: np.ndarray, settings: CacheSettings) -> np.ndarray:
    """Word after word in float64, as the equation is written: the nats of each target."""
    state, past, nats = model.start_state(1), [], []
    for here, target in zip(stream[:-1].tolist(), stream[1:].tolist(), strict=True):
        hidden, state = model(torch.tensor([[here]]), state)
        p = torch.softmax(model.output.logits(hidden[0]).double(), -1)[0, target].item()
        h = hidden.flatten().double()
        if past:
            weights = [math.exp(settings.theta * (h @ before).item()) for before, _ in past]
            same = sum(weight for weight, (_, word) in zip(weights, past, strict=True) if word == target)
            p = (1 - settings.weight) * p + settings.weight * same / sum(weights)
        nats.append(-math.log(p))
        past = [*past, (h, target)][-settings.size :]
    return np.array(nats)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 7, 50, 10_000])
@pytest.mark.parametrize("theta", [0.0, 0.66, 20.0])
def test_the_fast_cache_is_the_equation_over_the_borders_of_windows_and_tiles(
    size: int, theta: float, opened: tuple[LanguageModel, Corpus], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, text = opened
    text = dataclasses.replace(text, splits={"valid": text.splits["valid"][:200]})
    settings = CacheSettings(size, theta, 0.3)
    expected = reference(model, text.splits["valid"], settings)
    for window, scores in ((1, 1), (13, 100), (64, 2**22), (1024, 3000)):
        monkeypatch.setattr(perplexity, "WINDOW", window)
        monkeypatch.setattr(continuous_cache, "SCORES", scores)
        found = perplexity.target_nats(model, text, "valid", cache=settings)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        total = perplexity.evaluate(model, text, "valid", cache=settings).total_nats
        assert total == pytest.approx(expected.sum(), rel=1e-5)


def test_the_first_word_is_the_models_alone(opened: tuple[LanguageModel, Corpus]) -> None:
    model, text = opened
    alone = perplexity.target_nats(model, text, "valid")
    mixed = perplexity.target_nats(model, text, "valid", cache=CacheSettings(100, 0.5, 0.9))
    assert mixed[0] == pytest.approx(alone[0], rel=1e-6)
    # The cache holds one word then, and the second one is another: nothing but the model's share is left.
    assert text.splits["valid"][1] != text.splits["valid"][2]
    assert mixed[1] == pytest.approx(alone[1] - math.log(0.1), rel=1e-5)


def test_no_later_word_changes_the_score_of_an_earlier_one(opened: tuple[LanguageModel, Corpus]) -> None:
    model, text = opened
    cut, settings = 100, CacheSettings(40, 0.5, 0.5)
    stream = text.splits["valid"]
    other = np.concatenate([stream[: cut + 1], stream[cut + 1 :][::-1]])
    found = [torch.cat(list(perplexity._windows(model, ids, cache=settings))) for ids in (stream, other)]
    torch.testing.assert_close(found[0][:cut], found[1][:cut], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(found[0][cut:], found[1][cut:])


@pytest.mark.parametrize("settings", [CacheSettings(0, 0.66, 0.13), CacheSettings(100, 0.66, 0.0)])
def test_without_size_or_weight_nothing_changes_by_a_bit(
    settings: CacheSettings, opened: tuple[LanguageModel, Corpus]
) -> None:
    model, text = opened
    alone = perplexity.target_nats(model, text, "test")
    assert (perplexity.target_nats(model, text, "test", cache=settings) == alone).all()


def test_probabilities_of_all_words_add_up_to_one() -> None:
    draw = torch.Generator().manual_seed(3)
    hidden, past = torch.randn(9, 5, generator=draw), torch.randint(0, 4, (9,), generator=draw)
    total = 0.0
    for word in range(4):
        targets = torch.cat([past[:-1], torch.tensor([word])])
        found = ContinuousCache(6, [0.7]).log_probability(hidden, targets, torch.zeros(9))
        total += found[0, -1].exp().item()
    assert total == pytest.approx(1, rel=1e-6)


def test_large_products_overflow_nothing() -> None:
    hidden = 1e4 * torch.randn(20, 8, generator=torch.Generator().manual_seed(1))
    found = ContinuousCache(10, [1000.0]).log_probability(hidden, torch.zeros(20).long(), torch.ones(20))
    assert torch.equal(found[0, 1:], torch.zeros(19))  # one word only: the cache is sure of it


def test_what_is_chosen_is_the_best_of_the_grid(
    opened: tuple[LanguageModel, Corpus], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, text = opened
    monkeypatch.setattr(cache_tuning, "THETAS", (0.0, 0.5))
    monkeypatch.setattr(cache_tuning, "WEIGHTS", (0.0, 0.1, 0.4))
    monkeypatch.setattr(perplexity, "WINDOW", 50)
    scores = {
        (theta, weight): perplexity.evaluate(model, text, "valid", cache=CacheSettings(30, theta, weight)).nll
        for theta in (0.0, 0.5)
        for weight in (0.0, 0.1, 0.4)
    }
    chosen = cache_tuning.choose(model, text, 30)
    assert scores[chosen.theta, chosen.weight] == pytest.approx(min(scores.values()), rel=1e-9)


def test_the_cache_helps_where_a_text_repeats_its_own_words(tmp_path: Path) -> None:
    """Each paragraph has a rare word of its own, which nothing but the paragraph itself can tell."""
    draw = np.random.default_rng(5)
    for split, paragraphs in (("train", 150), ("valid", 30), ("test", 30)):
        lines = [" ".join(f"the w{name}" for _ in range(8)) for name in draw.permutation(150)[:paragraphs]]
        (tmp_path / f"{split}.txt").write_text("\n".join(lines) + "\n")
    flags = "--hidden-size 8 --embed-size 8 --batch-size 4 --bptt 10 --max-steps 4 --threads 1 --output-embed tied"
    assert train("--data", str(tmp_path), *flags.split(), "--run", str(tmp_path / "run")) == 0
    run = load(tmp_path / "run")
    cache = cache_tuning.choose(run.model, run.corpus, 20)
    alone = perplexity.evaluate(run.model, run.corpus, "test").perplexity
    assert perplexity.evaluate(run.model, run.corpus, "test", cache=cache).perplexity < alone / 3


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert cli.main(["evaluate", *arguments, "--threads", "1"]) == 0
    return capsys.readouterr().out


def test_the_command_says_which_cache(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [str(run), "--cache-size", "2000", "--cache-theta", "0.3", "--cache-lambda", "0.1"]
    assert " with a cache of 2,000 words (θ 0.3, λ 0.1), " in evaluated(capsys, *flags)
    scored = json.loads(evaluated(capsys, *flags, "--json"))
    assert scored["cache"] == {"size": 2000, "theta": 0.3, "lambda": 0.1}
    opened = load(run)
    expected = perplexity.evaluate(opened.model, opened.corpus, "test", cache=CacheSettings(2000, 0.3, 0.1))
    assert scored["perplexity"] == pytest.approx(expected.perplexity, rel=1e-6)
    alone = json.loads(evaluated(capsys, str(run), "--json"))
    assert "cache" not in alone
    none = json.loads(evaluated(capsys, str(run), "--json", "--cache-size", "50", "--cache-lambda", "0"))
    assert none["perplexity"] == alone["perplexity"]


def test_the_command_chooses_on_valid(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [str(run), "--cache-size", "60", "--cache-tune"]
    assert "), chosen on valid, " in evaluated(capsys, *flags)
    chosen = json.loads(evaluated(capsys, *flags, "--json"))["cache"]
    opened = load(run)
    assert chosen == cache_tuning.choose(opened.model, opened.corpus, 60).to_json()


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ("--cache-size -1", "--cache-size: out of range (found -1, expected a whole number at least 0)."),
        (
            "--cache-size 9 --cache-lambda 1",
            "--cache-lambda: out of range (found 1, expected a number at least 0 and below 1).",
        ),
        (
            "--cache-size 9 --cache-theta -0.1",
            "--cache-theta: out of range (found -0.1, expected a number at least 0 and at most 1000).",
        ),
        ("--cache-theta 0.5", "--cache-theta: there is no cache (found --cache-size 0). Fix: add --cache-size 2000"),
        (
            "--cache-size 9 --cache-tune --cache-lambda 0.2",
            "--cache-lambda: --cache-tune chooses it. Fix: drop one of the two",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(flags: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", "nowhere", *flags.split()]) == 2
    assert capsys.readouterr().err == f"fixlm: error: {line}\n"
