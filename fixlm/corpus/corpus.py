"""Text in, a `Corpus` out: vocabulary, counts, and one stream of ids a split.

Every source (a folder, WikiText-2, the built-in sample) gives an iterator of lines for each split; the same
code then makes the vocabulary from the train split and ids from the words. No list of all words is ever held.
"""

from __future__ import annotations

import hashlib
import json
import sys
from array import array
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embeddings import CorpusStatistics
from embeddings.errors import InputError
from embeddings.registry import Progress
from fixlm.corpus.cache import cache_directory, read_arrays, write_arrays
from fixlm.corpus.sources import PIECE_BYTES, SPLITS, Log, Source, find_source, no_words

if TYPE_CHECKING:
    from fixlm.corpus.sentencepiece import Tokenizer

EOS = "<eos>"
UNK = "<unk>"
FORMAT = 1
"""Part of the cache's key: raised when the same text would give other ids."""


def log_to_stderr(line: str) -> None:
    """The log that is used where none is given."""
    print(line, file=sys.stderr)


@dataclass(frozen=True, eq=False)
class Corpus:
    """A tokenised corpus.

    Args:
        name: short name of the data, for run names.
        words: the V words (or pieces) in order of ids, by falling count; no two alike.
        counts: (V,) int64, how often each occurs in the train split.
        splits: the ids of 'train', 'valid' and 'test', one int32 array (tokens,) each.
        word_totals: for each split, its whitespace words plus one ``<eos>`` a line, whatever the unit is.
        unit: what one id stands for: 'word' or 'piece'.
        end_of_line: the id of ``<eos>``.
        tokenizer_model: the sentencepiece model that made the pieces; None for words.
    """

    name: str
    words: list[str]
    counts: np.ndarray
    splits: dict[str, np.ndarray]
    word_totals: dict[str, int]
    unit: Literal["word", "piece"]
    end_of_line: int
    tokenizer_model: bytes | None = None

    def __len__(self) -> int:
        """V, the vocabulary size."""
        return len(self.words)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over the words in order of ids and the ids of all splits."""
        digest = hashlib.sha256("\n".join(self.words).encode())
        for split in SPLITS:
            digest.update(f"\n\n{split} {len(self.splits[split])}\n".encode())
            digest.update(np.ascontiguousarray(self.splits[split], dtype="<i4").data)
        return digest.hexdigest()

    def description(self) -> dict[str, Any]:
        """What identifies the text, as plain values."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "unit": self.unit,
            "vocabulary_size": len(self.words),
            "tokens": {split: len(ids) for split, ids in self.splits.items()},
        }

    def statistics(self) -> CorpusStatistics:
        """What the builders of output matrices may know: vocabulary, counts and the train split."""
        return CorpusStatistics(self.words, self.counts, self.splits["train"], self.end_of_line)


def load(
    data: str = "auto",
    tokenizer: str = "word",
    vocab_size: int | None = None,
    tokenizer_type: str = "unigram",
    log: Log = log_to_stderr,
    progress: Progress | None = None,
) -> Corpus:
    """Reads, tokenises and caches a corpus.

    Args:
        data: 'auto' (WikiText-2 where it can be had, else the sample), 'wikitext-2', 'sample', or a folder
            with train.txt, valid.txt and test.txt (or wiki.train.tokens and so on).
        tokenizer: 'word', 'sentencepiece' (trained on the train split), or a sentencepiece ``.model`` file.
        vocab_size: the number of pieces for 'sentencepiece', its default if None.
        tokenizer_type: 'unigram' or 'bpe', for 'sentencepiece'.
        log: called with one line about each thing a user should know.
        progress: called with how much of a large file is read.

    Raises:
        InputError: the data or the tokenizer cannot be used; names the flag, or the file and line.
    """
    if tokenizer == "word":
        if vocab_size is not None:
            fix = "add --tokenizer sentencepiece, or leave --vocab-size out"
            raise InputError(
                "--vocab-size", "words have no chosen vocabulary size", found=vocab_size, fix=fix
            )
        pieces = None
    else:
        from fixlm.corpus.sentencepiece import Tokenizer

        pieces = Tokenizer.choose(tokenizer, vocab_size, tokenizer_type)
    source = find_source(data, log, progress)
    return _load_cached(source, pieces, log)


def _load_cached(source: Source, tokenizer: Tokenizer | None, log: Log) -> Corpus:
    """The corpus from its tokenised copy, or built and then kept."""
    settings = tokenizer.settings if tokenizer else {"tokenizer": "word"}
    key = hashlib.sha256(json.dumps([FORMAT, source.content, settings], sort_keys=True).encode()).hexdigest()
    path = cache_directory() / "corpora" / f"{key[:32]}.safetensors"
    if kept := read_arrays(path):
        arrays, about = kept
        for note in about["notes"]:
            log(note)
        return _from_arrays(source.name, arrays, about)
    corpus, notes = _build_pieces(source, tokenizer) if tokenizer else _build_words(source)
    for note in notes:
        log(note)
    arrays = {"words": np.frombuffer("\n".join(corpus.words).encode(), dtype=np.uint8), **corpus.splits}
    if corpus.tokenizer_model is not None:
        arrays["tokenizer_model"] = np.frombuffer(corpus.tokenizer_model, dtype=np.uint8)
    about = {
        "sha256": corpus.sha256,
        "word_totals": corpus.word_totals,
        "unit": corpus.unit,
        "end_of_line": corpus.end_of_line,
        "notes": notes,
    }
    try:
        write_arrays(path, arrays, about)
    except OSError as error:
        log(f"no tokenised copy is kept, since the cache cannot be written: {error}")
    return corpus


def _from_arrays(name: str, arrays: dict[str, np.ndarray], about: dict) -> Corpus:
    words = arrays["words"].tobytes().decode().split("\n")
    model = arrays.get("tokenizer_model")
    return Corpus(
        name=name,
        words=words,
        counts=np.bincount(arrays["train"], minlength=len(words)),
        splits={split: arrays[split] for split in SPLITS},
        word_totals={split: about["word_totals"][split] for split in SPLITS},
        unit=about["unit"],
        end_of_line=about["end_of_line"],
        tokenizer_model=None if model is None else model.tobytes(),
    )


def log_unigram(counts: np.ndarray) -> np.ndarray:
    """Log probability of each word: (V,) counts → (V,) nats, float64; a piece never seen counts as seen once."""
    counts = np.maximum(counts, 1).astype(np.float64)
    return np.log(counts / counts.sum())


class _Vocabulary(dict[str, int]):
    """Gives each new word the next id, until `close`; then new words get ``<unk>``'s and are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.unknown: Counter[str] | None = None
        self.unk = -1

    def close(self) -> None:
        self.unk = self.get(UNK, -1)
        self.unknown = Counter()

    def __missing__(self, word: str) -> int:
        if self.unknown is not None:
            self.unknown[word] += 1
            return self.unk
        self[word] = identity = len(self)
        return identity


def _build_words(source: Source) -> tuple[Corpus, list[str]]:
    """One pass with ids by first occurrence, which are then put in order of falling count."""
    vocabulary = _Vocabulary()
    streams, notes = {}, []
    for split in SPLITS:
        streams[split] = _ids_of_words(source, split, vocabulary)
        if split == "train":
            vocabulary.close()
        elif vocabulary.unknown:
            notes.append(_note_unknown(source, split, vocabulary.unknown, vocabulary.unk))
            vocabulary.unknown.clear()
    order, counts = sort_by_count(streams, len(vocabulary))
    words = list(vocabulary)
    words = [words[i] for i in order]
    totals = {split: len(ids) for split, ids in streams.items()}
    return Corpus(source.name, words, counts, streams, totals, "word", words.index(EOS)), notes


def _ids_of_words(source: Source, split: str, vocabulary: _Vocabulary) -> np.ndarray:
    ids = array("i")
    lookup = vocabulary.__getitem__
    lines = 0
    for words, ends in source.lines(split):
        ids.extend(map(lookup, words))
        if ends:
            ids.append(vocabulary[EOS])
            lines += 1
    if len(ids) == lines:
        raise no_words(source, split)
    return np.frombuffer(ids, dtype=np.int32)


def _note_unknown(source: Source, split: str, unknown: Counter[str], unk: int) -> str:
    """The line to log about words that train lacks; names no path, since it is kept with the cached copy."""
    number = f"{unknown.total():,} tokens, {len(unknown):,} different"
    if unk < 0:
        examples = ", ".join(repr(word) for word in list(unknown)[:5])
        raise InputError(
            source.describe(split),
            f"it has words that the train split lacks, and there is no {UNK} to take them",
            found=f"{number}: {examples}",
            fix=f"write {UNK} for rare words in all splits, or use --tokenizer sentencepiece",
        )
    return f"{split} split: words that the train split lacks became {UNK} ({number})"


def sort_by_count(streams: dict[str, np.ndarray], size: int) -> tuple[list[int], np.ndarray]:
    """Renumbers the ids of all streams, in place, by falling count in 'train'; ties keep their order.

    Returns:
        For each new id the old one, and (size,) the counts in the new order.
    """
    counts = np.bincount(streams["train"], minlength=size)
    order = np.argsort(-counts, kind="stable")
    new = np.empty(size, dtype=np.int32)
    new[order] = np.arange(size, dtype=np.int32)
    for ids in streams.values():
        for start in range(0, len(ids), PIECE_BYTES):  # by pieces, so that no second stream is held
            part = ids[start : start + PIECE_BYTES]
            part[:] = new[part]
    return order.tolist(), counts[order].astype(np.int64)


def _build_pieces(source: Source, tokenizer: Tokenizer) -> tuple[Corpus, list[str]]:
    """Pieces of a sentencepiece model, which is trained first if it is not given."""
    # Read once before: the words are to be counted, and no error of a file is to pass through sentencepiece.
    totals = {split: _count_words(source, split) for split in SPLITS}
    tokenizer.train(lambda: (words for words, _ in source.lines("train")))
    streams = {split: tokenizer.encode(source.lines(split)) for split in SPLITS}
    order, counts = sort_by_count(streams, len(tokenizer.pieces))
    pieces = [tokenizer.pieces[i] for i in order]
    end_of_line = order.index(tokenizer.end_of_line)
    return Corpus(source.name, pieces, counts, streams, totals, "piece", end_of_line, tokenizer.model), []


def _count_words(source: Source, split: str) -> int:
    words = lines = 0
    for line, ends in source.lines(split):
        words += len(line)
        lines += ends
    if not words:
        raise no_words(source, split)
    return words + lines
