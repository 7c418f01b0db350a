"""Text of any kind into the ids of a vocabulary that is there already, as scoring needs it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embeddings.errors import InputError
from fixlm.corpus.data_set import EOS, without_end
from fixlm.corpus.sentencepiece import Tokenizer
from fixlm.corpus.word_vocabulary import UNK


@dataclass(frozen=True, eq=False)
class EncodedText:
    """A text as ids.

    Args:
        words: the n words as the text has them, ``<eos>`` for the end of a line.
        ids: (k,) int64, of the k ≥ n words or pieces.
        word_of: (k,) which word each id belongs to.
        unknown: the words that the vocabulary lacks, and how often each occurs.
        end_of_line: the id of ``<eos>``.
    """

    words: list[str]
    ids: np.ndarray
    word_of: np.ndarray
    unknown: Counter[str]
    end_of_line: int


def encode_text(text: str, vocabulary: Sequence[str], tokenizer: Tokenizer | None = None) -> EncodedText:
    r"""Splits a text at whitespace, as a corpus is; ``\n`` ends a line, and the last line need not have one.

    Args:
        vocabulary: the V words, or pieces, in order of ids.
        tokenizer: what cuts words into pieces; None where ids stand for words.

    Raises:
        InputError: there is no word in the text, or one that the vocabulary lacks and no ``<unk>`` can take; the text
            has bytes that are not UTF-8; or the tokenizer cuts a line otherwise than its words.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        what, found = "it has bytes that are not UTF-8", ascii(text[max(0, error.start - 20) : error.end])
        raise InputError("text", what, found=found, fix="write it in UTF-8") from None
    identities = {word: i for i, word in enumerate(vocabulary)}
    end = tokenizer.end if tokenizer else EOS
    words, ids, word_of, unknown = list[str](), list[int](), list[int](), Counter[str]()

    def add(word: str, pieces: Sequence[str]) -> None:
        found = [identities.get(piece, identities.get(UNK)) for piece in pieces]
        if any(piece not in identities for piece in pieces) or (tokenizer and UNK in pieces):
            unknown[word] += 1
        if None in found:
            what = f"not in the vocabulary, which has no {UNK} to take it"
            raise InputError("text", what, found=repr(word), fix="leave the word out, or train with sentencepiece")
        word_of.extend([len(words)] * len(pieces))
        ids.extend(identity for identity in found if identity is not None)
        words.append(word)

    lines = text.split("\n")
    for number, line in enumerate(lines):
        first, ends = len(ids), number < len(lines) - 1
        own = without_end(line.split()) if ends else line.split()
        for word in own:
            add(word, tokenizer.split(word) if tokenizer else [word])
        if tokenizer and ids[first:] != [identities[piece] for piece in tokenizer.split(" ".join(own))]:
            what = "its pieces of a line are not those of the line's words, so that no word has a score of its own"
            fix = "a model with add_dummy_prefix and split_by_whitespace"
            raise InputError("tokenizer", what, found=repr(line[:40]), fix=fix)
        if ends:
            add(EOS, [end])
    if len(words) == len(lines) - 1:
        raise InputError("text", "there is no word in it", found=repr(text[:20]))
    return EncodedText(words, np.array(ids), np.array(word_of), unknown, identities[end])


def with_counts(unknown: Counter[str]) -> str:
    """``zebra (2), yak (1)``: what a text had that the vocabulary lacks, most frequent first."""
    return ", ".join(f"{word} ({count})" for word, count in unknown.most_common())
