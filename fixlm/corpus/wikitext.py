"""WikiText-2 through `datasets`, without a long wait where there is no network."""

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from embeddings.errors import InputError
from fixlm.corpus.data_set import SPLITS, DataSet

REPOSITORY, CONFIGURATION = "Salesforce/wikitext", "wikitext-2-v1"
PROBE_SECONDS = 3.0
"""How long the hub may take to answer at all; `datasets` itself would retry for about 24 s."""
FIX = "give a folder that holds train.txt, valid.txt and test.txt: --data FOLDER"


def open_data_set() -> DataSet:
    """WikiText-2; its rows are loaded here, so that it is known whether they can be had."""
    rows = load()
    content = hashlib.sha256()
    for split in SPLITS:
        for row in rows[split]:
            content.update(row.encode() + b"\n")
        content.update(b"\0")
    return DataSet.of_rows("wikitext-2", content.hexdigest(), lambda: rows)


def load() -> dict[str, Sequence[str]]:
    """The rows of WikiText-2, one line of text each, under 'train', 'valid' and 'test'.

    Raises:
        InputError: neither the hub nor a copy in the cache of `datasets` can be had.
    """
    import datasets

    asked = _wants_offline()
    offline = asked or not hub_answers()
    try:
        with _quiet(), _offline(offline):
            dataset = datasets.load_dataset(REPOSITORY, CONFIGURATION)
        splits = {"train": "train", "valid": "validation", "test": "test"}
        return {split: dataset[theirs]["text"][:] for split, theirs in splits.items()}
    except Exception as error:  # a network library's: of any class; the user needs to know what to do instead
        if offline:
            reason = "offline mode is on" if asked else "the hub does not answer"
            what = f"WikiText-2 cannot be had: {reason}, and the cache of datasets has no copy"
            raise InputError("--data wikitext-2", what, fix=FIX) from None
        first = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError("--data wikitext-2", "WikiText-2 could not be loaded", found=first, fix=FIX) from error


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
