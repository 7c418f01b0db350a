"""Text from a model: what is drawn, and how it reads."""

from __future__ import annotations

import io
import itertools
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fixlm
from fixlm import cli
from fixlm.corpus.readable import ReadablePieces, ReadableWords
from fixlm.corpus.sentencepiece import Tokenizer
from fixlm.errors import InputError
from fixlm.evaluation.generation import draw, generate
from fixlm.evaluation.run import TextScore
from fixlm.evaluation.sampling import Sampling
from fixlm.score import show

SMALL = {"hidden_size": 16, "embed_size": 16, "batch_size": 4, "bptt": 10, "max_steps": 12, "threads": 1}


@pytest.fixture(scope="module")
def run(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> fixlm.Run:
    return fixlm.fit(
        output_embed="hadamard", data=tiny_corpus, run=tmp_path_factory.mktemp("generation") / "a", **SMALL
    )


def draws(sampling: Sampling, count: int = 400) -> Counter[int]:
    random = torch.Generator().manual_seed(1)
    logits = torch.tensor([0.1, 0.4, 0.3, 0.15, 0.05]).log()
    return Counter(draw(logits, sampling, random) for _ in range(count))


def test_words_are_drawn_by_their_probability() -> None:
    found = draws(Sampling(), 4000)
    for word, probability in enumerate([0.1, 0.4, 0.3, 0.15, 0.05]):
        assert found[word] / 4000 == pytest.approx(probability, abs=0.03)


def test_the_temperature_sharpens_and_at_0_the_most_probable_word_is_taken() -> None:
    assert draws(Sampling(temperature=0)) == draws(Sampling(temperature=1e-38)) == {1: 400}
    assert draws(Sampling(temperature=0.2))[1] > draws(Sampling())[1] > draws(Sampling(temperature=5.0))[1]


def test_only_the_most_probable_words_are_drawn() -> None:
    assert set(draws(Sampling(top_k=2))) == {1, 2}
    assert set(draws(Sampling(top_p=0.69))) == {1, 2}
    assert set(draws(Sampling(top_p=0.71))) == {1, 2, 3}
    assert set(draws(Sampling(top_p=1e-9))) == {1}
    assert set(draws(Sampling(top_k=1000))) == {0, 1, 2, 3, 4}


def test_the_state_is_carried_on(run: fixlm.Run) -> None:
    """The next word is the one that the whole text so far makes most probable, and not only its last word."""
    prompt = np.array([run.corpus.end_of_line, 2, 3])
    text = [*prompt, *itertools.islice(generate(run.model, prompt, Sampling(temperature=0)), 6)]
    for length in range(3, 9):
        with torch.no_grad():
            hidden, _ = run.model(torch.tensor(text[:length])[:, None], run.model.start_state(1))
            assert run.model.output(hidden[-1])[0].argmax() == text[length]


@pytest.mark.parametrize("sampling", [Sampling(temperature=0), Sampling(top_k=2)])
def test_words_that_are_never_drawn_take_no_place_among_the_most_probable(run: fixlm.Run, sampling: Sampling) -> None:
    prompt = np.array([run.corpus.end_of_line, 2, 3])
    with torch.no_grad():
        hidden, _ = run.model(torch.from_numpy(prompt)[:, None], run.model.start_state(1))
        order = run.model.output(hidden[-1])[0].argsort(descending=True).tolist()
    never = [order[0], order[2], order[-1]]
    drawn = {next(generate(run.model, prompt, replace(sampling, seed=seed), never)) for seed in range(30)}
    assert drawn == ({order[1]} if sampling.temperature == 0 else {order[1], order[3]})


def test_a_seed_gives_a_text_again_and_another_one_another(run: fixlm.Run) -> None:
    one, again, other = (run.generate("the cat", 30, seed=seed) for seed in (1, 1, 2))
    assert one == again != other
    assert one.startswith("the cat")
    assert "".join(run.stream("the cat", 30, seed=1)) == one.removeprefix("the cat")
    assert len(run.generate(tokens=5).replace("\n", " . ").split()) <= 6


def test_unk_is_drawn_only_if_asked_for_and_read_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("<unk> <unk> a <unk> <unk> b\n" * 60)
    run = fixlm.fit(output_embed="random-orthogonal", data=tmp_path, run=tmp_path / "run", **SMALL)
    assert "<unk>" not in run.generate("a", 60)
    assert "<unk>" in run.generate("a", 60, unknown=True)

    path = str(run.directory.path)
    assert cli.main(["generate", path, "--prompt", "a zebra b zebra", "--tokens", "3"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("a zebra b zebra")
    assert "the prompt has words that the model reads as <unk>: zebra (2)" in shown.err
    (tmp_path / "text").write_text("a zebra\n")
    assert cli.main(["score", path, str(tmp_path / "text"), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["unknown"] == {"zebra": 1}
    assert values["nats_per_word"] == pytest.approx(np.log(values["perplexity"]))
    assert cli.main(["score", path, str(tmp_path / "text")]) == 0
    assert "unknown: zebra (1)" in capsys.readouterr().out


def test_a_text_comes_word_by_word(run: fixlm.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word is there before the next one is drawn."""
    forward, calls = type(run.model).forward, []
    monkeypatch.setattr(type(run.model), "forward", lambda *given: (calls.append(1), forward(*given))[1])
    text = run.stream("the cat", 1000)
    assert next(text)
    assert len(calls) == 1
    assert next(text)
    assert len(calls) == 2


def test_a_surprising_word_is_red(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    show(TextScore(["sure", "odd", "lost"], np.array([0.5, 5.5, 12.0]), Counter()))
    shown = capsys.readouterr().out
    for word, faded in (("sure", 255), ("odd", 128), ("lost", 0)):
        assert f"48;2;255;{faded};{faded}m{word} " in shown


def test_wrong_arguments_are_named(run: fixlm.Run) -> None:
    with pytest.raises(InputError, match=r"^temperature: out of range .found -1"):
        run.generate(temperature=-1.0)
    with pytest.raises(InputError, match=r"^tokens: not a number of words .found -1"):
        run.generate(tokens=-1)
    with pytest.raises(InputError, match=r"unknown argument 'topk'.*Did you mean 'top_k'"):
        run.generate(topk=3)
    with pytest.raises(InputError, match=r"not in the vocabulary.*'zebra'"):
        run.generate("the zebra")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("a well @-@ known game , 1 @,@ 000 m ( 3 @.@ 5 ft ) long .", "a well-known game, 1,000 m (3.5 ft) long."),
        ('he said " yes , but " and didn \'t', 'he said "yes, but" and didn\'t'),
        ('one . <eos> Two ; " three " <eos>', 'one.\nTwo; "three"\n'),
        ("$ 5 – 6 %", "$5 – 6%"),
    ],
)
def test_words_read_as_people_write_them(words: str, text: str) -> None:
    readable = ReadableWords()
    assert "".join(readable.add(word) for word in words.split()) == text


@pytest.mark.slow
@pytest.mark.parametrize("kind", [{"vocab_size": 277}, {"vocab_size": 261, "tokenizer_type": "bytes"}])
def test_pieces_read_as_text_while_they_come(kind: dict[str, Any]) -> None:
    tokenizer = Tokenizer(**kind)
    tokenizer.train(lambda: [["grüße", "from", "the", "watching", "horses"]] * 50)
    for text in ("the horses watching", "naïve 漢 the", "漢漢 é"):
        readable = ReadablePieces(tokenizer)
        parts = [readable.add(piece) for piece in tokenizer.split(text)]
        assert "".join(parts) == text
        assert "\N{REPLACEMENT CHARACTER}" not in "".join(parts)
    assert readable.add(tokenizer.end) == "\n"


def test_the_command_prints_what_the_library_gives(run: fixlm.Run, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(run.directory.path)
    assert cli.main(["generate", path, "--prompt", "the cat", "--tokens", "12", "--top-k", "3", "--seed", "5"]) == 0
    assert capsys.readouterr().out == run.generate("the cat", 12, top_k=3, seed=5) + "\n"
    assert cli.main(["generate", path, "--top-p", "2"]) == 2
    assert "--top-p: out of range (found 2" in capsys.readouterr().err


def test_the_score_of_a_file_is_that_of_the_library(
    run: fixlm.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, text = str(run.directory.path), "the cat sees the dog .\nthe bird"
    (tmp_path / "text").write_text("\ufeff" + text)  # editors of some systems begin a file so
    expected = run.score(text)
    assert cli.main(["score", path, str(tmp_path / "text"), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert [each["word"] for each in values["words"]] == expected.words
    assert values["perplexity"] == pytest.approx(expected.perplexity)
    assert values["words"][1]["bits"] == pytest.approx(expected.nats[1] / np.log(2), abs=1e-4)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert cli.main(["score", path, "-"]) == 0
    shown = capsys.readouterr().out
    assert "the cat sees the dog . ¶" in shown
    assert f"perplexity {expected.perplexity:,.2f} over 9 words" in shown


def test_a_text_that_cannot_be_scored_is_refused(
    run: fixlm.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bytes").write_bytes(b"the \xff")
    for file, message in (("bytes", "bytes: not UTF-8 (found 0xff at byte 4)"), ("none", "No such file")):
        assert cli.main(["score", str(run.directory.path), str(tmp_path / file)]) == 2
        assert message in capsys.readouterr().err


def test_blanks_at_the_end_of_a_prompt_are_not_shown_twice(run: fixlm.Run) -> None:
    assert run.generate("the ", 5) == run.generate("the", 5)
    shown = run.generate("the\n", 5)
    assert shown.startswith("the\n")
    assert shown[4] != " "


def test_a_text_that_is_not_utf8_is_refused(run: fixlm.Run) -> None:
    for ask in (run.score, run.generate):
        with pytest.raises(InputError, match="not UTF-8"):
            ask("the caf\udce9")


def test_an_end_of_line_that_is_written_is_scored_once(run: fixlm.Run) -> None:
    assert run.score("the cat <eos>\nthe dog").words == run.score("the cat\nthe dog").words
