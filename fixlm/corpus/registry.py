"""The data sets by name. A new data set is a file with a function ``open_data_set``, and a line here."""

import importlib
import os
from pathlib import Path

from embeddings.errors import InputError, unknown_name
from embeddings.registry import Progress
from fixlm.corpus.data_set import DataSet
from fixlm.corpus.text_files import open_folder

# Modules are imported when their data set is asked for, since some bring heavy libraries with them.
DATA_SETS = {
    "auto": "fixlm.corpus.automatic",
    "sample": "fixlm.corpus.builtin_text",
    "wikitext-2": "fixlm.corpus.wikitext",
    "wikitext-103": "fixlm.corpus.wikitext_103",
}


def find(data: str, progress: Progress | None = None) -> DataSet:
    """The data set that ``--data`` names: one of `DATA_SETS`, or a folder.

    Raises:
        InputError: there is no such data set or folder, or it cannot be read.
    """
    if data in DATA_SETS:
        data_set: DataSet = importlib.import_module(DATA_SETS[data]).open_data_set()
        return data_set
    if is_there(data):
        return open_folder(_path(data), progress)
    expected = "a folder with train.txt, valid.txt and test.txt"
    if data and os.path.exists(_path(data)):
        raise InputError("--data", "not a folder", found=data, expected=expected)
    if data != _path(data).name:
        raise InputError("--data", "there is no such folder", found=data, expected=expected)
    raise unknown_name("--data", "data set or folder", data, [*DATA_SETS, "a folder with the three splits"])


def is_there(data: str) -> bool:
    """Whether ``--data`` names a data set or a folder that exists."""
    # os.path.isdir, since Path.is_dir raises for a name that is too long. An empty name is no folder.
    return data in DATA_SETS or (bool(data) and os.path.isdir(_path(data)))


def _path(data: str) -> Path:
    return Path(os.path.expanduser(data))
