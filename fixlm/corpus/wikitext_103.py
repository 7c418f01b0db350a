"""WikiText-103: the articles of WikiText-2 and many more, with V = 267,735 words."""

from fixlm.corpus import wikitext
from fixlm.corpus.data_set import DataSet

NAME = "wikitext-103"


def open_data_set() -> DataSet:
    """WikiText-103; its rows stay on disk and are read in batches."""
    return wikitext.as_data_set(NAME, wikitext.load(NAME))
