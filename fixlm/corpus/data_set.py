"""What a data set is: a name, and lines of words for each of three splits."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from embeddings.errors import InputError

SPLITS = ("train", "valid", "test")
EOS = "<eos>"
"""The word that ends a line."""

Line = tuple[list[str], bool]
"""Words of a line and whether they end it (False for a piece of a very long line)."""


@dataclass(frozen=True)
class DataSet:
    """Text in three splits.

    Args:
        name: the short name, for run names.
        content: a hash of all that the lines depend on; data sets with the same content share a tokenised copy.
        lines: gives the lines of a split, anew at each call.
        describe: what to call a split in an error.
    """

    name: str
    content: str
    lines: Callable[[str], Iterator[Line]]
    describe: Callable[[str], str]

    @classmethod
    def of_rows(cls, name: str, content: str, rows: Callable[[], Mapping[str, Iterable[str]]]) -> Self:
        """A data set whose splits are lines, to be read several times; ``rows`` is called when they are needed."""
        return cls(
            name,
            content,
            lambda split: ((without_end(row.split()), True) for row in rows()[split]),
            lambda split: f"the {split} split of {name}",
        )

    def no_words(self, split: str) -> InputError:
        """The error for a split that is empty or blank."""
        return InputError(self.describe(split), "there is no word in it", expected=f"the text of the {split} split")


def without_end(words: list[str]) -> list[str]:
    """The words of a line without an ``<eos>`` that the text has at its end: each line gets one anyway."""
    return words[:-1] if words and words[-1] == EOS else words
