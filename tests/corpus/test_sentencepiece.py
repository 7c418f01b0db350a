"""Sentencepiece: pieces and their ids, models of one's own, and the line that each fault gives."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece

from embeddings.errors import InputError
from fixlm.corpus import corpus
from fixlm.corpus.encoding import encode_text
from fixlm.corpus.sentencepiece import Tokenizer, is_whole

LINES = [
    "the cat sat on the mat with the <unk> cat",
    "",
    "a dog and a cat met the other dogs on mats",
    "dogs and cats and other <unk> sat where the mat was",
] * 20


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "train.txt").write_text("\n".join(LINES) + "\n")
    (folder / "valid.txt").write_text("the  dog\n字 <unk>\n")
    (folder / "test.txt").write_text("cats")
    return folder


def read(data: Path, tokenizer: str = "sentencepiece", vocab_size: int | None = 284, **options: Any) -> corpus.Corpus:
    return corpus.load(str(data), tokenizer, vocab_size, **options)


def error_of(data: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(data, **options)
    return str(caught.value)


def trained(**options: Any) -> bytes:
    """A model as someone else may have trained it."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for line in LINES if line),
        model_writer=model,
        minloglevel=2,
        normalization_rule_name="identity",
        **({"vocab_size": 28} | options),
    )
    return model.getvalue()


def text_of(loaded: corpus.Corpus, split: str) -> str:
    assert loaded.tokenizer_model is not None
    return Tokenizer(loaded.tokenizer_model).join(loaded.words[i] for i in loaded.splits[split])


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_pieces_give_the_text_back_and_are_sorted_by_count(data: Path, kind: str) -> None:
    loaded = read(data, tokenizer_type=kind)
    assert loaded.unit == "piece"
    assert len(loaded) == len(set(loaded.words)) == 284
    assert (np.diff(loaded.counts) <= 0).all()
    assert loaded.counts[-1] == 0  # bytes that train lacks stay in the vocabulary
    np.testing.assert_array_equal(loaded.counts, np.bincount(loaded.splits["train"], minlength=284))
    assert loaded.splits["train"].dtype == np.int32
    assert loaded.words[loaded.end_of_line] == "<eos>"
    assert text_of(loaded, "train") == "\n".join(LINES) + "\n"
    assert text_of(loaded, "valid") == "the dog\n字 <unk>\n"  # 字 by its three bytes


def test_bytes_are_a_vocabulary_that_fits_any_text(data: Path) -> None:
    loaded = read(data, "bytes", None)
    assert loaded.unit == "piece"
    assert len(loaded) == 261
    assert text_of(loaded, "train") == "\n".join(LINES) + "\n"
    assert text_of(loaded, "valid") == "the dog\n字 <unk>\n"
    bytes_of_the = ["▁", "<0x74>", "<0x68>", "e"]  # one letter has a piece of its own, since sentencepiece wants one
    assert [loaded.words[i] for i in loaded.splits["valid"]] == [
        *bytes_of_the, "▁", "<0x64>", "<0x6F>", "<0x67>", "<eos>",
        "▁", "<0xE5>", "<0xAD>", "<0x97>", "▁<unk>", "<eos>",
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"bytes are a vocabulary of one size .found 300, expected 261"):
        read(data, "bytes", 300)


def test_word_totals_are_of_the_original_text(data: Path) -> None:
    words = sum(len(line.split()) + 1 for line in LINES)
    loaded = read(data)
    assert loaded.word_totals == {"train": words, "valid": 6, "test": 2}
    assert len(loaded.splits["train"]) > words


def test_unk_of_the_corpus_is_one_piece(data: Path) -> None:
    loaded = read(data)
    assert loaded.counts[loaded.words.index("▁<unk>")] == 40


def test_the_same_text_gives_the_same_model(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read(data)
    cached = read(data)
    monkeypatch.setenv("FIXLM_CACHE", str(tmp_path))
    anew = read(data)
    assert first.tokenizer_model == cached.tokenizer_model == anew.tokenizer_model
    assert first.sha256 == cached.sha256 == anew.sha256
    assert first.word_totals == cached.word_totals
    assert cached.unit == "piece"


def test_a_saved_model_gives_the_same_corpus(data: Path, tmp_path: Path) -> None:
    loaded = read(data)
    path = tmp_path / "own.model"
    assert loaded.tokenizer_model is not None
    path.write_bytes(loaded.tokenizer_model)
    assert read(data, str(path)).sha256 == loaded.sha256
    assert read(data, str(path), None).tokenizer_model == loaded.tokenizer_model


def test_a_model_without_an_end_of_line_gets_one(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "own.model"
    path.write_bytes(trained(eos_id=-1, bos_id=-1))
    loaded = read(data, str(path), 28)
    assert len(loaded) == 29
    assert loaded.words[loaded.end_of_line] == "<eos>"
    assert loaded.counts[loaded.end_of_line] == len(LINES)
    path.write_bytes(trained())
    loaded = read(data, str(path), None)
    assert (len(loaded), loaded.words[loaded.end_of_line]) == (28, "</s>")


def test_pieces_with_whitespace_are_written_without() -> None:
    tokenizer = Tokenizer(trained(user_defined_symbols=["\n", "\t"]))
    assert not [piece for piece in tokenizer.pieces if len(piece.split()) != 1]
    assert "\\u000a" in tokenizer.pieces


def test_long_paragraphs_are_trained_on_too(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a b c\n" + "zyx " * 5000 + "\n")
    for split in ("valid", "test"):
        (tmp_path / f"{split}.txt").write_text("a\n")
    assert "▁zyx" in read(tmp_path, vocab_size=268, tokenizer_type="bpe").words


def test_split_and_join_are_for_prompts(data: Path) -> None:
    model = read(data).tokenizer_model
    tokenizer = Tokenizer(model)
    pieces = tokenizer.split(" the  mat 字\n")
    assert set(pieces) <= set(tokenizer.pieces)
    assert tokenizer.join(pieces) == "the mat 字"


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_vocabulary_out_of_range_says_the_range(data: Path, kind: str) -> None:
    line = error_of(data, vocab_size=8000, tokenizer_type=kind)
    assert line.startswith("--vocab-size: more pieces than the train split gives (found 8000, expected at most ")
    most = int(re.findall(r"at most (\d+)\)", line)[0])
    assert line.endswith("Fix: fewer pieces, or --tokenizer-type bpe, which makes more") == (kind == "unigram")
    assert len(read(data, vocab_size=most, tokenizer_type=kind)) == most
    line = error_of(data, vocab_size=100, tokenizer_type=kind)
    assert line.startswith(
        "--vocab-size: fewer pieces than the train split's characters and the 256 bytes need "
        "(found 100, expected at least "
    )
    least = int(line.split()[-1].strip(")."))
    assert len(read(data, vocab_size=least, tokenizer_type=kind)) == least


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"vocab_size": 0}, "--vocab-size: the number of pieces must be positive (found 0)."),
        ({"vocab_size": -5}, "--vocab-size: the number of pieces must be positive (found -5)."),
        (
            {"tokenizer_type": "bpee"},
            "--tokenizer-type: unknown tokenizer type 'bpee'. Fix: Did you mean 'bpe'? Choose one of: bpe, unigram",
        ),
        (
            {"tokenizer": "sentencepeice"},
            "--tokenizer: unknown tokenizer 'sentencepeice'. Fix: Did you mean 'sentencepiece'? "
            "Choose one of: a .model file, bytes, sentencepiece, word",
        ),
        ({"tokenizer": "no.model"}, "--tokenizer: no.model cannot be read: No such file or directory."),
        ({"tokenizer": "/tmp"}, "--tokenizer: /tmp cannot be read: Is a directory."),
    ],
)
def test_a_bad_flag_is_named(data: Path, options: dict[str, Any], line: str) -> None:
    assert error_of(data, **options) == line


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x0a\xff\xff", 100, -40])
def test_a_damaged_model_is_an_error(data: Path, tmp_path: Path, content: bytes | int) -> None:
    path = tmp_path / "bad.model"
    path.write_bytes(trained()[:content] if isinstance(content, int) else content)
    assert error_of(data, tokenizer=str(path)) == (
        f"--tokenizer: not a sentencepiece model, or one that was cut short (found {path})."
    )


def test_a_model_cut_anywhere_is_noticed() -> None:
    model = trained()
    assert is_whole(model)
    assert not any(is_whole(model[:size]) for size in range(len(model)))


def test_a_model_has_its_own_size(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "own.model"
    path.write_bytes(trained())
    assert error_of(data, tokenizer=str(path)) == (
        f"--vocab-size: {path} has its own size (found 284, expected 28). "
        "Fix: leave --vocab-size out, or train with --tokenizer sentencepiece"
    )


def test_words_have_no_score_of_their_own_where_a_line_is_cut_otherwise() -> None:
    tokenizer = Tokenizer(trained(add_dummy_prefix=False))
    with pytest.raises(InputError, match="its pieces of a line are not those of the line's words"):
        encode_text("the cat sat on the mat", tokenizer.pieces, tokenizer)
    tokenizer = Tokenizer(trained())
    encoded = encode_text("the  cat\nsat", tokenizer.pieces, tokenizer)
    assert encoded.words == ["the", "cat", "<eos>", "sat"]


def test_no_text_is_an_error() -> None:
    with pytest.raises(InputError, match="there is no text to train sentencepiece on"):
        Tokenizer(vocab_size=300).train(lambda: iter([]))


def test_characters_that_a_model_lacks_are_told(data: Path, tmp_path: Path, log: list[str]) -> None:
    (tmp_path / "own.model").write_bytes(trained())
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("the \N{SNOWMAN} \N{SNOWMAN}\n" if split == "test" else "the the\n")
    read(tmp_path, str(tmp_path / "own.model"), None)
    assert any("test split: characters that the tokenizer lacks" in line and "2 times" in line for line in log)
