"""Words and pieces back into text for reading, one at a time, so that it can be shown while it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fixlm.corpus.data_set import EOS

if TYPE_CHECKING:
    from fixlm.corpus.sentencepiece import Tokenizer

JOINERS = {"@-@": "-", "@,@": ",", "@.@": "."}
"""WikiText's marks for a hyphen inside a word and for the points inside a number."""
ENDS = frozenset(",.;:!?)]}%'…")
OPENS = frozenset("([{$£€#")


class ReadableWords:
    """Words of a text that was split for training: spaces before punctuation and around WikiText's marks go."""

    def __init__(self) -> None:
        self.glued = True  # no space before the next word
        self.quoted = False

    def add(self, token: str) -> str:
        if token == EOS:
            self.glued, self.quoted = True, False
            return "\n"
        if token in JOINERS:
            self.glued = True
            return JOINERS[token]
        space = "" if self.glued else " "
        self.glued = token in OPENS
        if token == '"':
            self.quoted = not self.quoted
            self.glued = self.quoted
            return space + token if self.quoted else token
        if token in ENDS or (token[0] == "'" and token[1:].isalpha()):
            return token
        return space + token


class ReadablePieces:
    """Pieces of sentencepiece; bytes that are a part of a character wait for the rest of it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.before: list[str] = []  # the pieces that were shown last, on which a space in front of the next depends
        self.waiting: list[str] = []

    def add(self, token: str) -> str:
        if token == self.tokenizer.end:
            self.before, self.waiting = [], []
            return "\n"
        self.waiting.append(token)
        text = self.tokenizer.join([*self.before, *self.waiting])
        if text.endswith("\N{REPLACEMENT CHARACTER}"):
            return ""
        shown = self.tokenizer.join(self.before)
        self.before, self.waiting = self.waiting, []
        return text[len(shown) :]
