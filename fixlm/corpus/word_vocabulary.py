"""Words into ids: the vocabulary is that of the train split, other words become ``<unk>``."""

from array import array
from collections import Counter

import numpy as np

from embeddings.errors import InputError
from fixlm.corpus.data_set import EOS, SPLITS, DataSet
from fixlm.corpus.token_ids import TokenIds

UNK = "<unk>"


class _Vocabulary(dict[str, int]):
    """Gives each new word the next id, until `close`; then new words get the id of ``<unk>`` and are counted."""

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


def encode_words(data_set: DataSet) -> TokenIds:
    """One pass over the text; ids are by first occurrence. No list of all words is ever held.

    Raises:
        InputError: a split has no words, or words that train lacks and no ``<unk>`` can take.
    """
    vocabulary = _Vocabulary()
    streams, notes = {}, []
    for split in SPLITS:
        streams[split] = _ids_of_words(data_set, split, vocabulary)
        if split == "train":
            vocabulary.close()
        elif vocabulary.unknown:
            notes.append(_note_unknown(data_set, split, vocabulary.unknown, vocabulary.unk))
            vocabulary.unknown.clear()
    totals = {split: len(ids) for split, ids in streams.items()}
    return TokenIds(list(vocabulary), streams, totals, vocabulary[EOS], notes)


def _ids_of_words(data_set: DataSet, split: str, vocabulary: _Vocabulary) -> np.ndarray:
    ids = array("i")
    lookup = vocabulary.__getitem__
    lines = 0
    for words, ends in data_set.lines(split):
        ids.extend(map(lookup, words))
        if ends:
            ids.append(vocabulary[EOS])
            lines += 1
    if len(ids) == lines:
        raise data_set.no_words(split)
    return np.frombuffer(ids, dtype=np.int32)


def _note_unknown(data_set: DataSet, split: str, unknown: Counter[str], unk: int) -> str:
    number = f"{unknown.total():,} tokens, {len(unknown):,} different"
    if unk < 0:
        examples = ", ".join(repr(word) for word in list(unknown)[:5])
        raise InputError(
            data_set.describe(split),
            f"it has words that the train split lacks, and there is no {UNK} to take them",
            found=f"{number}: {examples}",
            fix=f"write {UNK} for rare words in all splits, or use --tokenizer sentencepiece",
        )
    return f"{split} split: words that the train split lacks became {UNK} ({number})"
