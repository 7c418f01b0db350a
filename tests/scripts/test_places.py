"""Where programs write their figures is looked at before anything is measured."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType

import pytest

from embeddings.files import write_json
from fixlm.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("places")


def test_a_file_in_a_directory_that_can_be_written_is_fine(places: ModuleType, tmp_path: Path) -> None:
    places.require_places(json=str(tmp_path / "a.json"), plot=None)
    (tmp_path / "a.json").write_text("{}")
    places.require_places(json=str(tmp_path / "a.json"))


def test_what_is_no_file_is_written_to_and_not_replaced(places: ModuleType, tmp_path: Path) -> None:
    """As /dev/null and /dev/stdout are."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    places.require_places(json=str(pipe))
    write_json(pipe, {"a": 1})
    assert os.read(reader, 100) == b'{\n  "a": 1\n}\n'
    os.close(reader)
    assert pipe.is_fifo()
    assert [*tmp_path.iterdir()] == [pipe]


@pytest.mark.parametrize(
    ("place", "message"), [("none/a.json", "--json: there is no such directory"), ("", "--json: is a directory")]
)
def test_other_places_are_refused(places: ModuleType, tmp_path: Path, place: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        places.require_places(json=str(tmp_path / place))


def test_a_place_without_the_right_to_write_is_refused(
    places: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the superuser may write anywhere
    with pytest.raises(InputError, match="--json: cannot be written"):
        places.require_places(json=str(tmp_path / "a.json"))
