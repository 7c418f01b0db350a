"""WikiText through `datasets`, whose download is stood in for, and what is said where it cannot be had."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import huggingface_hub.constants
import pytest

from embeddings.errors import InputError
from fixlm.corpus import corpus, wikitext

ROWS = {"train": ["", " = Title = \n", " a b a <unk> \n"], "validation": [" b \n", ""], "test": [" a \n"]}
LOAD_TEST = Path(__file__).parents[2] / "scripts" / "reliability"
FLAGS = (datasets.config, huggingface_hub.constants)


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Both libraries as in a process without HF_HUB_OFFLINE, and a hub that answers or not."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    for module in FLAGS:
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)
    return lambda answers: monkeypatch.setattr(wikitext, "hub_answers", lambda: answers)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """A `load_dataset` that gives ROWS and notes its arguments and the mode it was called in."""
    calls: list[tuple[Any, ...]] = []

    def load_dataset(*arguments: str) -> datasets.DatasetDict:
        calls.append((*arguments, *(module.HF_HUB_OFFLINE for module in FLAGS)))
        rows = {split: datasets.Dataset.from_dict({"text": text}) for split, text in ROWS.items()}
        return datasets.DatasetDict(rows)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls


def failing(error: Exception) -> Callable[..., None]:
    def load_dataset(*arguments: str) -> None:
        raise error

    return load_dataset


@pytest.mark.parametrize("name", ["wikitext-2", "wikitext-103"])
@pytest.mark.parametrize("answers", [True, False])
def test_each_row_is_a_line_and_offline_mode_is_for_a_silent_hub_only(
    online: Callable[[bool], None], hub: list[tuple[Any, ...]], name: str, answers: bool
) -> None:
    online(answers)
    loaded = corpus.load(name)
    words = [loaded.words[i] for i in loaded.splits["train"]]
    assert " ".join(words) == "<eos> = Title = <eos> a b a <unk> <eos>"
    assert (loaded.name, loaded.word_totals) == (name, {"train": 10, "valid": 3, "test": 2})
    assert hub == [("Salesforce/wikitext", f"{name}-v1", not answers, not answers)]
    assert [module.HF_HUB_OFFLINE for module in FLAGS] == [False, False]  # as before


def test_wikitext_2_keeps_the_key_of_its_tokenised_copy(hub: list[tuple[Any, ...]]) -> None:
    """It is a hash of the rows as they are."""
    text = b"".join(b"".join(row.encode() + b"\n" for row in ROWS[split]) + b"\0" for split in ROWS)
    assert wikitext.open_data_set().content == hashlib.sha256(text).hexdigest()


def test_a_split_is_read_in_batches_and_more_than_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wikitext, "BATCH", 2)
    table = datasets.Dataset.from_dict({"text": [f" row {i} \n" for i in range(5)]})
    rows = wikitext.Rows(table)
    monkeypatch.setattr(datasets.Dataset, "__getitem__", None)  # a column as a whole is never asked for
    assert [*rows] == [*rows] == [f" row {i} \n" for i in range(5)]


@pytest.mark.slow
def test_wikitext_103_from_the_cache_of_datasets(tmp_path: Path) -> None:
    """A small stand-in in the files that `datasets` keeps, read by the real library without a network."""
    program = f"""
import sys
sys.path.insert(0, {str(LOAD_TEST)!r})
from pathlib import Path
import stand_in
stand_in.write(Path({str(tmp_path)!r}), 20_000, 500, seed=1)
from fixlm.corpus import corpus
text = corpus.load("wikitext-103")
print(text.name, len(text), len(text.splits["train"]))
"""
    environment = os.environ | {"HF_DATASETS_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout) == ("", "wikitext-103 501 20001\n")


def test_auto_takes_wikitext_2_where_it_can_be_had(hub: list[tuple[Any, ...]], log: list[str]) -> None:
    assert corpus.load("auto").name == "wikitext-2"
    assert log == []


def test_auto_falls_back_to_the_sample_and_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch, log: list[str]) -> None:
    monkeypatch.setattr(datasets, "load_dataset", failing(ConnectionError("no")))
    assert corpus.load("auto").name == "sample"
    (line,) = log
    assert line.startswith("--data auto: using the built-in sample. WikiText-2 cannot be had: ")
    assert line.endswith("Fix: give a folder that holds train.txt, valid.txt and test.txt: --data FOLDER")


def test_no_network_and_no_copy_is_an_error_that_names_the_folder(
    online: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    online(False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)  # so that no copy is found
    with pytest.raises(InputError) as caught:
        corpus.load("wikitext-2")  # the real load_dataset, in offline mode
    assert str(caught.value) == (
        "--data wikitext-2: WikiText-2 cannot be had: the hub does not answer, and the cache of datasets has "
        "no copy. Fix: give a folder that holds train.txt, valid.txt and test.txt: --data FOLDER"
    )


def test_offline_mode_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wikitext, "hub_answers", None)  # must not be called
    monkeypatch.setattr(datasets, "load_dataset", failing(ConnectionError("no")))
    with pytest.raises(InputError, match="cannot be had: offline mode is on, and the cache of datasets has no"):
        wikitext.load()


def test_a_failure_of_the_hub_is_an_error_with_its_first_line(
    online: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    online(True)
    monkeypatch.setattr(datasets, "load_dataset", failing(RuntimeError("went wrong\nat length")))
    with pytest.raises(InputError) as caught:
        wikitext.load()
    assert str(caught.value) == (
        "--data wikitext-2: WikiText-2 could not be loaded (found RuntimeError: went wrong). "
        "Fix: give a folder that holds train.txt, valid.txt and test.txt: --data FOLDER"
    )


def test_progress_bars_are_as_before(hub: list[tuple[Any, ...]]) -> None:
    before = datasets.utils.are_progress_bars_disabled()
    wikitext.load()
    assert datasets.utils.are_progress_bars_disabled() == before


@pytest.fixture
def hub_at(online: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """``hub_at(url)`` has huggingface_hub take this address for the hub's."""
    real = wikitext.hub_answers
    online(True)
    monkeypatch.setattr(wikitext, "hub_answers", real)
    monkeypatch.setenv("no_proxy", "*")
    yield lambda url: monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    huggingface_hub.close_session()


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(self.server.status)  # type: ignore[attr-defined]
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "answers"), [(200, True), (404, True), (407, False), (503, False)])
def test_a_hub_answers_unless_it_or_the_proxy_fails(
    server: HTTPServer, hub_at: Callable[[str], None], status: int, answers: bool
) -> None:
    server.status = status  # type: ignore[attr-defined]
    hub_at(f"http://127.0.0.1:{server.server_port}")
    assert wikitext.hub_answers() is answers


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "nonsense"])
def test_a_hub_that_is_not_there_does_not_answer(hub_at: Callable[[str], None], endpoint: str) -> None:
    hub_at(endpoint)
    assert not wikitext.hub_answers()


def test_a_name_that_nobody_looks_up_is_not_waited_for(
    hub_at: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def look_up(*arguments: Any, **options: Any) -> None:
        over.wait()
        raise socket.gaierror

    hub_at("http://hub.invalid")
    monkeypatch.setattr(wikitext, "PROBE_SECONDS", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        assert not wikitext.hub_answers()
    finally:
        over.set()
