"""Text in, a `Corpus` out: vocabulary, counts, and one stream of ids a split.

Every data set (`fixlm.corpus.registry`) gives the lines of each split. The same code then makes the vocabulary from
the train split, and ids from the words or from their pieces.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embeddings import CorpusStatistics
from embeddings.errors import InputError
from embeddings.registry import Progress
from fixlm.cache_directory import cache_directory
from fixlm.corpus import registry, tokenised_copy
from fixlm.corpus.data_set import SPLITS, DataSet
from fixlm.corpus.shared_lines import warnings_of_shared_lines
from fixlm.corpus.word_vocabulary import encode_words

if TYPE_CHECKING:
    from fixlm.corpus.sentencepiece import Tokenizer

logger = logging.getLogger(__name__)

FORMAT = 4
"""Part of the key of the tokenised copy: raised when the same text would give other ids or notes."""


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

    def log_unigram(self) -> np.ndarray:
        """Log probability of each word in the train split: (V,) nats, float64; a piece never seen counts as once."""
        counts = np.maximum(self.counts, 1).astype(np.float64)
        log: np.ndarray = np.log(counts / counts.sum())
        return log

    def statistics(self) -> CorpusStatistics:
        """What the builders of output matrices may know: vocabulary, counts and the train split."""
        return CorpusStatistics(self.words, self.counts, self.splits["train"], self.end_of_line)


def load(
    data: str = "auto",
    tokenizer: str = "word",
    vocab_size: int | None = None,
    tokenizer_type: str = "unigram",
    progress: Progress | None = None,
) -> Corpus:
    """Reads, tokenises and caches a corpus.

    Args:
        data: 'auto' (WikiText-2 where it can be had, else the sample), 'wikitext-2', 'wikitext-103', 'sample', or
            a folder with train.txt, valid.txt and test.txt (or wiki.train.tokens and so on).
        tokenizer: 'word', 'sentencepiece' (trained on the train split), 'bytes', or a sentencepiece ``.model`` file.
        vocab_size: the number of pieces for 'sentencepiece', its default if None.
        tokenizer_type: 'unigram' or 'bpe', for 'sentencepiece'.
        progress: called with how much of a large file is read.

    Raises:
        InputError: the data or the tokenizer cannot be used; names the flag, or the file and line.
    """
    if tokenizer == "word":
        if vocab_size is not None:
            fix = "add --tokenizer sentencepiece, or leave --vocab-size out"
            raise InputError("--vocab-size", "words have no chosen vocabulary size", found=vocab_size, fix=fix)
        pieces = None
    else:
        from fixlm.corpus.sentencepiece import Tokenizer

        pieces = Tokenizer.choose(tokenizer, vocab_size, tokenizer_type)
    return _load(registry.find(data, progress), pieces)


def _load(data_set: DataSet, tokenizer: Tokenizer | None) -> Corpus:
    """The corpus from its tokenised copy, or made from the text and then kept."""
    settings = tokenizer.settings if tokenizer else {"tokenizer": "word"}
    key = hashlib.sha256(json.dumps([FORMAT, data_set.content, settings], sort_keys=True).encode()).hexdigest()
    path = cache_directory() / "corpora" / f"{key[:32]}.safetensors"
    kept = tokenised_copy.read(path)
    arrays, about = kept or _tokenise(data_set, tokenizer)
    for level, note in about["notes"]:
        logger.log(level, note)
    if not kept:
        try:
            tokenised_copy.write(path, arrays, about)
        except OSError as error:
            logger.info(f"no tokenised copy is kept, since the cache cannot be written: {error}")
    words = arrays["words"].tobytes().decode().split("\n")
    model = arrays.get("tokenizer_model")
    return Corpus(
        name=data_set.name,
        words=words,
        counts=np.bincount(arrays["train"], minlength=len(words)),
        splits={split: arrays[split] for split in SPLITS},
        word_totals={split: about["word_totals"][split] for split in SPLITS},
        unit=about["unit"],
        end_of_line=about["end_of_line"],
        tokenizer_model=None if model is None else model.tobytes(),
    )


def _tokenise(data_set: DataSet, tokenizer: Tokenizer | None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and plain values that are the whole of a `Corpus` but its name, as the tokenised copy keeps them."""
    if tokenizer is None:
        found = encode_words(data_set)
    else:
        from fixlm.corpus.sentencepiece import encode_pieces

        found = encode_pieces(data_set, tokenizer)
    found.sort_by_count()
    notes = [(logging.INFO, note) for note in found.notes]
    warnings = [*found.warnings, *warnings_of_shared_lines(found.splits, found.end_of_line)]
    notes += [(logging.WARNING, each) for each in warnings]
    arrays = {"words": np.frombuffer("\n".join(found.words).encode(), dtype=np.uint8), **found.splits}
    if tokenizer is not None:
        arrays["tokenizer_model"] = np.frombuffer(tokenizer.model, dtype=np.uint8)
    about = {
        "word_totals": found.word_totals,
        "unit": "word" if tokenizer is None else "piece",
        "end_of_line": found.end_of_line,
        "notes": notes,
    }
    return arrays, about
