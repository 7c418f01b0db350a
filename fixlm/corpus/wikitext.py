"""WikiText-2 through `datasets`, without a long wait where there is no network."""

from __future__ import annotations

import contextlib
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

from embeddings.errors import InputError

REPOSITORY, CONFIGURATION = "Salesforce/wikitext", "wikitext-2-v1"
PROBE_SECONDS = 3.0
"""How long the hub may take to answer at all; `datasets` itself would retry for about 24 s."""
FIX = "give a folder that holds train.txt, valid.txt and test.txt: --data FOLDER"


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
        raise InputError(
            "--data wikitext-2", "WikiText-2 could not be loaded", found=first, fix=FIX
        ) from error


def hub_answers() -> bool:
    """Whether the hub (``$HF_ENDPOINT``, by the environment's proxies) answers within `PROBE_SECONDS`."""
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    url = f"{endpoint.rstrip('/')}/api/datasets/{REPOSITORY}"
    answered = threading.Event()

    def probe() -> None:
        # OSError: no route, no name, no time; ValueError: an endpoint that is no URL.
        with contextlib.suppress(OSError, ValueError):
            try:
                urllib.request.urlopen(
                    urllib.request.Request(url, method="HEAD"), timeout=PROBE_SECONDS
                ).close()
            except urllib.error.HTTPError as error:
                error.close()
                if error.code >= 500 or error.code == 407:
                    return
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
