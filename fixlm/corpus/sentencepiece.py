"""Sentencepiece: lines into pieces, by a model that is trained on the train split or taken from a file."""

import hashlib
import io
import os
import re
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np

from embeddings.errors import InputError, unknown_name
from fixlm.corpus.data_set import SPLITS, DataSet
from fixlm.corpus.token_ids import TokenIds

TYPES = ("unigram", "bpe")
DEFAULT_VOCAB_SIZE = 4000  # the built-in sample gives some 7,000 at most
END_OF_LINE_NAMES = ("<eos>", "</s>")
UNK_WORD = "▁<unk>"  # the corpus' own <unk>, as one piece together with the space before it
BYTE_PIECES = 261  # 256 bytes, <unknown>, <eos>, the corpus' <unk>, the space, and LETTER
LETTER = "e"  # sentencepiece makes no model without a letter; this one stands for its byte
THREADS = 4  # fixed, since the sums of the unigram model depend on how its text is shared out


class Tokenizer:
    """Turns lines into pieces.

    Args:
        model: a serialised sentencepiece model; None to train one with `train`.
        vocab_size: the number of pieces to train.
        tokenizer_type: 'unigram', 'bpe', or 'bytes' for a model that cuts words into their UTF-8 bytes.

    Raises:
        InputError: the model is truncated, or no sentencepiece model.
    """

    def __init__(
        self, model: bytes | None = None, vocab_size: int = DEFAULT_VOCAB_SIZE, tokenizer_type: str = "unigram"
    ) -> None:
        self.settings: dict[str, Any] = {"tokenizer": "sentencepiece"}
        self._vocab_size, self._type = vocab_size, tokenizer_type
        self.model, self.pieces, self.end_of_line = b"", list[str](), -1
        if model is None:
            self.settings |= {"vocab_size": vocab_size, "type": tokenizer_type}
        else:
            self.settings["model"] = hashlib.sha256(model).hexdigest()
            self._open(model)

    @classmethod
    def choose(cls, tokenizer: str, vocab_size: int | None, tokenizer_type: str) -> Self:
        """The tokenizer that ``--tokenizer``, ``--vocab-size`` and ``--tokenizer-type`` name.

        Raises:
            InputError: names the flag.
        """
        if tokenizer_type not in TYPES:
            raise unknown_name("--tokenizer-type", "tokenizer type", tokenizer_type, TYPES)
        if vocab_size is not None and vocab_size < 1:
            raise InputError("--vocab-size", "the number of pieces must be positive", found=vocab_size)
        if tokenizer == "sentencepiece":
            return cls(None, DEFAULT_VOCAB_SIZE if vocab_size is None else vocab_size, tokenizer_type)
        if tokenizer == "bytes":
            if vocab_size not in (None, BYTE_PIECES):
                what, fix = "bytes are a vocabulary of one size", "leave --vocab-size out"
                raise InputError("--vocab-size", what, found=vocab_size, expected=BYTE_PIECES, fix=fix)
            return cls(None, BYTE_PIECES, "bytes")
        path = Path(os.path.expanduser(tokenizer))
        if not path.exists() and path.suffix != ".model":
            known = ["word", "sentencepiece", "bytes", "a .model file"]
            raise unknown_name("--tokenizer", "tokenizer", tokenizer, known)
        try:
            chosen = cls(path.read_bytes())
        except OSError as error:
            raise InputError("--tokenizer", f"{path} cannot be read: {error.strerror}") from None
        except InputError as error:
            raise InputError("--tokenizer", str(error).removeprefix("tokenizer: ").rstrip("."), found=path) from None
        size = len(chosen._processor)
        if vocab_size not in (None, size):
            fix = "leave --vocab-size out, or train with --tokenizer sentencepiece"
            raise InputError("--vocab-size", f"{path} has its own size", found=vocab_size, expected=size, fix=fix)
        return chosen

    def train(self, lines: Callable[[], Iterable[list[str]]]) -> None:
        """Trains the model on lines of words, unless there is one; the same lines give the same model.

        Raises:
            InputError: the text is empty, or too small or too large for the number of pieces.
        """
        if self.model:
            return
        from sentencepiece import SentencePieceTrainer

        of_bytes = self._type == "bytes"
        model = io.BytesIO()
        try:
            SentencePieceTrainer.train(
                sentence_iterator=iter([LETTER]) if of_bytes else (" ".join(words) for words in lines() if words),
                model_writer=model,
                vocab_size=self._vocab_size,
                model_type="unigram" if of_bytes else self._type,
                byte_fallback=True,
                normalization_rule_name="identity",
                bos_id=-1,
                pad_id=-1,
                unk_id=0,
                eos_id=1,
                unk_piece="<unknown>",  # <unk> is the corpus' own word
                eos_piece="<eos>",
                user_defined_symbols=[UNK_WORD],
                max_sentence_length=1 << 30,  # the default leaves out paragraphs of more than 4,192 bytes
                num_threads=THREADS,
                minloglevel=2,
            )
        except RuntimeError as error:
            raise _training_error(str(error), self._vocab_size, self._type) from None
        self._open(model.getvalue())

    def encode(self, lines: Iterable[tuple[list[str], bool]]) -> np.ndarray:
        """The model's ids, int32, of lines (words, and whether they end it); ``end_of_line`` after each."""
        ids = array("i")
        for words, ends in lines:
            ids.extend(self._processor.encode(" ".join(words)))
            if ends:
                ids.append(self.end_of_line)
        return np.frombuffer(ids, dtype=np.int32)

    def count_unknown(self, ids: np.ndarray) -> int:
        """How many of these ids are the piece that stands for characters which the model lacks."""
        return int(np.count_nonzero(ids == self._processor.unk_id()))

    @property
    def end(self) -> str:
        """The piece that ends a line."""
        return self.pieces[self.end_of_line]

    def split(self, text: str) -> list[str]:
        """The pieces of a text, as they stand in the vocabulary; whitespace counts as one space."""
        return [self.pieces[i] for i in self._processor.encode(" ".join(text.split()))]

    def join(self, pieces: Iterable[str]) -> str:
        """The text of pieces; ``<eos>`` ends a line."""
        lines = [list[int]()]
        for piece in pieces:
            if piece == self.end:
                lines.append([])
            else:
                lines[-1].append(self._ids[piece])
        return "\n".join(self._processor.decode(line) for line in lines)

    def _open(self, model: bytes) -> None:
        from sentencepiece import SentencePieceProcessor

        if not is_whole(model):
            raise InputError("tokenizer", "not a sentencepiece model, or one that was cut short")
        try:
            self._processor = SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise InputError("tokenizer", "not a sentencepiece model", found=error) from None
        self.model = model
        try:
            self.pieces = [_printable(self._processor.id_to_piece(i)) for i in range(len(self._processor))]
        except UnicodeDecodeError as error:
            raise InputError("tokenizer", "a piece of the sentencepiece model is not UTF-8", found=error) from None
        self.end_of_line = self._find_end_of_line()
        if len(set(self.pieces)) != len(self.pieces):
            raise InputError("tokenizer", "two pieces of the sentencepiece model are alike")
        self._ids = {piece: i for i, piece in enumerate(self.pieces)}

    def _find_end_of_line(self) -> int:
        """The id of the model's own end of a sentence; a model without one gets ``<eos>`` appended."""
        if self._processor.eos_id() >= 0:
            return self._processor.eos_id()
        for name in END_OF_LINE_NAMES:
            if name in self.pieces:
                return self.pieces.index(name)
        self.pieces.append(END_OF_LINE_NAMES[0])
        return len(self.pieces) - 1


def encode_pieces(data_set: DataSet, tokenizer: Tokenizer) -> TokenIds:
    """Ids of the model's pieces; the model is trained first if it is not given.

    Raises:
        InputError: a split has no words, or the model cannot be trained.
    """
    # Read once before: the words are to be counted, and no error of a file is to pass through sentencepiece.
    totals = {split: _count_words(data_set, split) for split in SPLITS}
    tokenizer.train(lambda: (words for words, _ in data_set.lines("train")))
    streams = {split: tokenizer.encode(data_set.lines(split)) for split in SPLITS}
    unknown = {split: tokenizer.count_unknown(ids) for split, ids in streams.items()}
    warnings = [_warning_of_unknown(split, pieces) for split, pieces in unknown.items() if pieces]
    return TokenIds(tokenizer.pieces, streams, totals, tokenizer.end_of_line, warnings=warnings)


def _warning_of_unknown(split: str, pieces: int) -> str:
    """Such a piece stands for any characters, so that it is predicted more easily than they would be."""
    return (
        f"{split} split: characters that the tokenizer lacks became its unknown piece ({pieces:,} times), so that the "
        "perplexity per word is too low to compare with other runs. Train the tokenizer with byte_fallback"
    )


def _count_words(data_set: DataSet, split: str) -> int:
    """Whitespace words, and one more a line."""
    words = lines = 0
    for line, ends in data_set.lines(split):
        words += len(line)
        lines += ends
    if not words:
        raise data_set.no_words(split)
    return words + lines


def _training_error(message: str, vocab_size: int, tokenizer_type: str) -> InputError:
    """What sentencepiece's own message means for the user."""
    if most := re.search(r"too high .*<= (\d+)", message):
        what, fix = "more pieces than the train split gives", None
        if tokenizer_type == "unigram":
            fix = "fewer pieces, or --tokenizer-type bpe, which makes more"
        return InputError("--vocab-size", what, found=vocab_size, expected=f"at most {most[1]}", fix=fix)
    if least := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        what = "fewer pieces than the train split's characters and the 256 bytes need"
        return InputError("--vocab-size", what, found=vocab_size, expected=f"at least {least[1]}")
    if "sentences_.empty()" in message:
        return InputError("--tokenizer", "there is no text to train sentencepiece on")
    return InputError("--tokenizer", "sentencepiece cannot be trained on this text", found=message)


def _printable(piece: str) -> str:
    """A piece without whitespace, since a vocabulary file has one a line; only foreign models have these."""
    return "".join(f"\\u{ord(sign):04x}" if sign.isspace() else sign for sign in piece)


def is_whole(model: bytes) -> bool:
    """Whether a serialised model has pieces, trainer's and normaliser's settings, to the last byte.

    Sentencepiece itself reads a model that was cut between two pieces, and says nothing.
    """
    try:
        fields = set(_fields(model))
    except (IndexError, ValueError):
        return False
    return {1, 2, 3} <= fields


def _fields(message: bytes) -> Iterator[int]:
    """The numbers of a protobuf message's fields, all of which must be length-delimited, as a model's are."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag & 7 != 2:
            raise ValueError("not a length-delimited field")
        length, at = _varint(message, at)
        at += length
        yield tag >> 3
    if at != len(message):
        raise ValueError("cut short")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("no number")
