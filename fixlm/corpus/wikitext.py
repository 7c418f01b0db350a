"""WikiText-2 and WikiText-103 through `datasets`, without a long wait where there is no network."""

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from embeddings.errors import InputError
from fixlm.corpus.data_set import SPLITS, DataSet

REPOSITORY = "Salesforce/wikitext"
SPLITS_THERE = {"train": "train", "valid": "validation", "test": "test"}
BATCH = 1000
"""Rows that are read at a time."""
PROBE_SECONDS = 3.0
"""How long the hub may take to answer at all; `datasets` itself would retry for about 24 s."""
FIX = "give a folder that holds train.txt, valid.txt and test.txt: --data FOLDER"


@dataclass(frozen=True)
class Rows:
    """The rows of a split, anew each time they are asked for. Only a batch of them is in memory.

    Args:
        table: a `datasets.Dataset` with the column ``text``, which lies on disk.
    """

    table: Any

    def __iter__(self) -> Iterator[str]:
        for batch in self.table.iter(BATCH):
            yield from batch["text"]


def open_data_set() -> DataSet:
    """WikiText-2; its rows are asked for here, so that it is known whether they can be had."""
    return as_data_set("wikitext-2", load())


def as_data_set(name: str, rows: Mapping[str, Iterable[str]]) -> DataSet:
    """The data set of these rows, known by a hash over all of them."""
    content = hashlib.sha256()
    for split in SPLITS:
        for row in rows[split]:
            content.update(row.encode() + b"\n")
        content.update(b"\0")
    return DataSet.of_rows(name, content.hexdigest(), lambda: rows)


def load(name: str = "wikitext-2") -> dict[str, Iterable[str]]:
    """The rows of a WikiText, one line of text each, under 'train', 'valid' and 'test'.

    Args:
        name: 'wikitext-2' or 'wikitext-103'.

    Raises:
        InputError: neither the hub nor a copy in the cache of `datasets` can be had.
    """
    import datasets

    title = name.replace("wikitext", "WikiText")
    asked = _wants_offline()
    offline = asked or not hub_answers()
    try:
        with _quiet(), _offline(offline):
            dataset = datasets.load_dataset(REPOSITORY, f"{name}-v1")
        return {split: Rows(dataset[theirs]) for split, theirs in SPLITS_THERE.items()}
    except Exception as error:  # a network library's: of any class; the user needs to know what to do instead
        if offline:
            reason = "offline mode is on" if asked else "the hub does not answer"
            what = f"{title} cannot be had: {reason}, and the cache of datasets has no copy"
            raise InputError(f"--data {name}", what, fix=FIX) from None
        first = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"--data {name}", f"{title} could not be loaded", found=first, fix=FIX) from error


def hub_answers() -> bool:
    """Whether the hub answers within `PROBE_SECONDS`; `huggingface_hub` knows its address and the proxies."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    url = f"{constants.ENDPOINT}/api/datasets/{REPOSITORY}"
    answered = threading.Event()

    def probe() -> None:
        with contextlib.suppress(Exception):  # of any class: no route, no name, no time, an address that is none
            status = get_session().head(url, timeout=PROBE_SECONDS).status_code
            if status < 500 and status != 407:  # 407: a proxy wants a password
                answered.set()

    # In a thread, since looking up a name has no timeout of its own.
    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return answered.is_set()


def _wants_offline() -> bool:
    import datasets
    import huggingface_hub.constants

    now = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    return bool(now or datasets.config.HF_HUB_OFFLINE or huggingface_hub.constants.HF_HUB_OFFLINE)


@contextlib.contextmanager
def _offline(wanted: bool) -> Iterator[None]:
    """Offline mode of both libraries by their flags, as they read the environment only at import."""
    import datasets
    import huggingface_hub.constants

    modules: list[Any] = [datasets.config, huggingface_hub.constants]
    before = [module.HF_HUB_OFFLINE for module in modules]
    try:
        for module in modules if wanted else []:
            module.HF_HUB_OFFLINE = True
        yield
    finally:
        for module, value in zip(modules, before, strict=True):
            module.HF_HUB_OFFLINE = value


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no warnings of the two libraries: this program says in one line what happened."""
    import datasets
    from huggingface_hub import utils

    theirs, hub = datasets.utils.are_progress_bars_disabled(), utils.are_progress_bars_disabled()
    verbosity = datasets.logging.get_verbosity()
    datasets.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    utils.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if not theirs:
            datasets.enable_progress_bars()
        if not hub:
            utils.enable_progress_bars()
