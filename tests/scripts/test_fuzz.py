"""Readers against damaged and hostile files: a file is read, or refused in one line, and nothing else happens.

``FIXLM_FUZZ_EXAMPLES=5000 python -m pytest tests/scripts/test_fuzz.py`` takes longer and other examples than the
suite does. ``scripts/reliability/fuzz.py`` does the same by atheris. Inputs that once were read wrongly are kept in
``tests/attacks/READER/``.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import io
import json
import os
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from embeddings.errors import InputError
from embeddings.readers.read_vectors import read_vectors

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
EXAMPLES = int(os.environ.get("FIXLM_FUZZ_EXAMPLES", "0"))
FOUND = sorted(path for path in (ROOT / "tests" / "attacks").rglob("*") if path.is_file())
READERS = (
    "word2vec-text", "word2vec-binary", "glove", "gzip", "gzip-damaged", "safetensors", "npy", "vocabulary",
    "sentencepiece", "corpus",
)  # fmt: skip
LEAST = 6 << 20
"""Bytes that a reader may take for any file: its buffers, and what Python imports when it is first used."""
RATIO = 64
"""Further bytes for each of the file: words of a character are objects of 50 bytes."""


def fuzz_settings(examples: int) -> Any:
    """The same examples in every run of the suite; as many as asked for, and others each time, in the long form."""
    return settings(
        max_examples=EXAMPLES or examples,
        derandomize=not EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    specification = importlib.util.spec_from_file_location("fuzz", ROOT / "scripts" / "reliability" / "fuzz.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


class Watch:
    """Notes, while it is on, the files that Python opens to write or read, and whatever could run code."""

    FORBIDDEN = frozenset(["pickle.find_class", "os.system", "subprocess.Popen", "os.exec", "ctypes.dlopen", "exec"])

    def __init__(self) -> None:
        self.on, self.opened, self.forbidden = False, list[str](), list[str]()
        sys.addaudithook(self.see)  # for as long as Python runs: there is no way to take it back

    def see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            self.opened.append(os.path.realpath(os.fsdecode(arguments[0])))
        elif event in self.FORBIDDEN:
            self.forbidden.append(event)

    @contextlib.contextmanager
    def watching(self, folder: Path) -> Iterator[None]:
        self.on, self.opened, self.forbidden = True, [], []
        try:
            yield
        finally:
            self.on = False
        allowed = (os.path.realpath(folder), os.path.realpath(os.environ["FIXLM_CACHE"]), "/proc/", "/sys/", "/dev/")
        assert [path for path in self.opened if not path.startswith(allowed)] == []
        assert self.forbidden == []


@pytest.fixture(scope="module")
def watch(fuzz: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Watch:
    folder = tmp_path_factory.mktemp("first")
    for reader in READERS:  # once before, so that what is imported on first use is not taken for a file of the input's
        fuzz.run_target(reader, fuzz.well_formed(reader, folder)[0], folder)
    return Watch()


def edits(longest: int) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """A few ways to damage a file of at most that many bytes."""
    place = st.integers(0, max(longest - 1, 0))
    kinds = st.one_of(
        st.tuples(st.just("set"), place, st.binary(min_size=1, max_size=4)),
        st.tuples(st.just("insert"), place, st.one_of(st.binary(max_size=12), st.sampled_from(HOSTILE))),
        st.tuples(st.just("delete"), place, st.integers(1, 40)),
        st.tuples(st.just("repeat"), place, st.integers(1, 200)),
        st.tuples(st.just("cut"), place),
        st.tuples(st.just("flip"), place, st.integers(0, 7)),
    )
    return st.lists(kinds, max_size=5)


HOSTILE = [
    b"2000000000 ", b"\n", b" ", b"\0", b"nan", b"-inf", b"1e999", b"\xef\xbb\xbf", b"\xff", "\u2028".encode(),
    b"\x80\x04.", b"PK\x03\x04", b"\x1f\x8b", b"..", b"/", b"[" * 2000, b'{"a":', b"99999999999999999999", b"-1", b"{}",
    b"null", b"true", b"1.5", b'""',
]  # fmt: skip


def damaged(content: bytes, changes: list[tuple[Any, ...]]) -> bytes:
    """The content after the edits, one after the other."""
    data = bytearray(content)
    for kind, at, *more in changes:
        at %= max(len(data), 1)
        if kind == "set":
            data[at : at + len(more[0])] = more[0]
        elif kind == "insert":
            data[at:at] = more[0]
        elif kind == "delete":
            del data[at : at + more[0]]
        elif kind == "repeat":
            data[at:at] = data[at : at + more[0]]
        elif kind == "cut":
            del data[at:]
        elif data:
            data[at] ^= 1 << more[0]
    return bytes(data)


def read(fuzz: ModuleType, watch: Watch, reader: str, content: bytes, folder: Path) -> str | None:
    """Has a reader read the bytes, watched; the line of its refusal, if any."""
    tracemalloc.start()
    try:
        with watch.watching(folder):
            line: str | None = fuzz.run_target(reader, content, folder)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < LEAST + RATIO * len(content), f"{peak:,} bytes for a file of {len(content):,}"
    return line


@pytest.mark.parametrize("reader", READERS)
def test_damaged_files_are_read_or_refused_in_one_line(
    reader: str, fuzz: ModuleType, watch: Watch, tmp_path: Path
) -> None:
    originals = fuzz.well_formed(reader, tmp_path)
    for content in originals:
        assert fuzz.run_target(reader, content, tmp_path) is None  # as it is, it is read

    @fuzz_settings(150)
    @given(which=st.integers(0, len(originals) - 1), changes=edits(max(map(len, originals))))
    def check(which: int, changes: list[tuple[Any, ...]]) -> None:
        read(fuzz, watch, reader, damaged(originals[which], changes), tmp_path)

    check()


@pytest.mark.parametrize("reader", READERS)
def test_any_bytes_are_read_or_refused_in_one_line(reader: str, fuzz: ModuleType, watch: Watch, tmp_path: Path) -> None:
    @fuzz_settings(50)
    @given(content=st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(HOSTILE), max_size=12).map(b"".join)))
    @example(content=b"")
    @example(content=b"\x80\x04\x95")
    def check(content: bytes) -> None:
        read(fuzz, watch, reader, content, tmp_path)

    check()


def test_damaged_runs_are_read_or_refused_in_one_line(fuzz: ModuleType, tmp_path: Path) -> None:
    """Each file of a run in turn; the manifest agrees with what was made of it, so that it is read to its end."""
    originals = fuzz.well_formed("run", tmp_path)

    @fuzz_settings(60)
    @given(which=st.integers(0, len(originals) - 1), changes=edits(max(map(len, originals))))
    def check(which: int, changes: list[tuple[Any, ...]]) -> None:
        content = originals[which]
        fuzz.run_target("run", content[:1] + damaged(content[1:], changes), tmp_path)

    check()


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@pytest.mark.parametrize("number", [0, 5], ids=["config.json", "state.json"])
def test_any_value_in_the_json_of_a_run_is_read_or_refused(number: int, fuzz: ModuleType, tmp_path: Path) -> None:
    """Whole JSON, but another value under one of its keys."""
    original = fuzz.well_formed("run", tmp_path)[number]
    values = json.loads(original[1:])
    paths = [(key, *rest) for key in values for rest in _keys(values[key])]

    @fuzz_settings(60)
    @given(where=st.sampled_from(paths), value=PLAIN)
    @example(where=paths[0], value=10**400)
    def check(where: tuple[str, ...], value: Any) -> None:
        changed = json.loads(original[1:])
        at = changed
        for key in where[:-1]:
            at = at[key]
        at[where[-1]] = value
        fuzz.run_target("run", original[:1] + json.dumps(changed).encode(), tmp_path)

    check()


def _keys(values: Any) -> Iterator[tuple[str, ...]]:
    yield ()
    if isinstance(values, dict):
        for key in values:
            yield from ((key, *rest) for rest in _keys(values[key]))


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_was_found_before_stays_mended(path: Path, fuzz: ModuleType, watch: Watch, tmp_path: Path) -> None:
    if path.parent.name == "run":
        fuzz.run_target("run", path.read_bytes(), tmp_path)
    else:
        read(fuzz, watch, path.parent.name, path.read_bytes(), tmp_path)


# --- claims and bombs: what would be allocated if a header were believed -----------------------------------


def bombs() -> dict[str, bytes]:
    """Small files that ask for much."""
    zeros, line = bytes(1 << 24), b"the" + b" 1" * ((1 << 23) - 8)
    header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 300)}
    npy = io.BytesIO()
    np.lib.format.write_array_header_1_0(npy, header)
    claim = json.dumps({"vectors": {"dtype": "F32", "shape": [1 << 40, 300], "data_offsets": [0, 1200 << 40]}})
    return {
        "v.txt": b"2000000000 300\nthe 1 2\n",
        "v.bin": b"2000000000 300\nthe \0\0\0\0",
        "claimed.bin.gz": gzip.compress(b"1 200000000\nthe " + zeros),
        "wide.bin.gz": gzip.compress(b"2 4000000\nthe " + zeros),
        "wide.txt.gz": gzip.compress(line),
        "spaces.txt.gz": gzip.compress(b"the" + b" " * ((1 << 24) - 9) + b"1\n"),
        "endless.txt.gz": gzip.compress(b"1" * (1 << 25)),
        "v.npy": npy.getvalue() + bytes(1200),
        "v.safetensors": len(claim).to_bytes(8, "little") + claim.encode() + bytes(1200),
        "header.safetensors": (1 << 62).to_bytes(8, "little") + b'{"vectors":',
        "nested.safetensors": (100_000).to_bytes(8, "little") + b"[" * 100_000,
    }


@pytest.mark.parametrize("name", bombs())
def test_nothing_is_allocated_by_a_claim(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(bombs()[name])
    (tmp_path / "vocabulary.txt").write_text("the\n")
    tracemalloc.start()
    try:
        with pytest.raises(InputError):
            read_vectors(path, {"the": 0, "of": 1})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A line may have 16 MB, whatever it is packed to.
    assert peak < (80 << 20), f"{peak:,}"


@pytest.mark.parametrize(
    ("key", "found"), [("hidden_size", "lstm.weight_ih_l0 [16, 4]"), ("embed_size", "input_embedding.weight [6, 4]")]
)
def test_a_config_that_claims_a_giant_model_allocates_none(
    key: str, found: str, fuzz: ModuleType, tmp_path: Path
) -> None:
    """With no more than 4 GB of address space: 57 GB would be an error of memory."""
    fuzz.make_run(tmp_path)
    config = tmp_path / "run" / "config.json"
    values = json.loads(config.read_text())
    values["model"][key] = 60_000
    config.write_text(json.dumps(values))
    program = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from fixlm import cli
sys.exit(cli.main(sys.argv[1:]))
"""
    command = [sys.executable, "-c", program, "evaluate", str(tmp_path / "run"), "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"run: the checkpoint does not fit config.json (found {found}, expected [" in done.stderr


# --- no code is run ----------------------------------------------------------------------------------------


class Trap:
    """Unpickled, it would leave a trace."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was opened",))


@pytest.mark.parametrize("reader", READERS)
def test_a_pickle_under_any_name_is_never_opened(reader: str, fuzz: ModuleType, watch: Watch, tmp_path: Path) -> None:
    array = io.BytesIO()
    np.save(array, np.array([[Trap()]], dtype=object), allow_pickle=True)
    for content in (pickle.dumps(Trap()), pickle.dumps(Trap(), protocol=0), array.getvalue()):
        line = read(fuzz, watch, reader, content, tmp_path)
        assert line is not None or reader in ("corpus", "vocabulary")  # to which protocol 0 is a text like any other


# --- well-formed files read as gensim reads them -----------------------------------------------------------

WORD = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]), min_size=1, max_size=8)
NUMBER = st.floats(width=32, allow_nan=False, allow_infinity=False)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # gensim leaves it open without a header
@fuzz_settings(80)
@given(data=st.data(), words=st.lists(WORD, min_size=1, max_size=6, unique=True), dim=st.integers(1, 5))
@pytest.mark.parametrize("form", ["text", "text.gz", "binary", "binary-newline", "glove"])
def test_well_formed_vectors_are_read_as_gensim_reads_them(
    form: str, data: st.DataObject, words: list[str], dim: int, tmp_path: Path
) -> None:
    from gensim.models import KeyedVectors

    rows = np.array(
        data.draw(st.lists(st.lists(NUMBER, min_size=dim, max_size=dim), min_size=len(words), max_size=len(words))),
        dtype=np.float32,
    )
    header = b"" if form == "glove" else f"{len(words)} {dim}\n".encode()
    if form.startswith("binary"):
        end = b"\n" if form == "binary-newline" else b""
        body = b"".join(w.encode() + b" " + row.tobytes() + end for w, row in zip(words, rows, strict=True))
    else:
        lines = (f"{w} {' '.join(map(repr, row.tolist()))}\n" for w, row in zip(words, rows, strict=True))
        body = "".join(lines).encode()
    path = tmp_path / ("v.gz" if form.endswith("gz") else "v")
    path.write_bytes(gzip.compress(header + body) if form.endswith("gz") else header + body)
    keyed = KeyedVectors.load_word2vec_format(
        str(path), binary=form.startswith("binary"), no_header=form == "glove", encoding="utf-8"
    )
    kind = "binary" if form.startswith("binary") else "text"
    found = read_vectors(path, {word: number for number, word in enumerate(words)}, format=kind)
    assert [words[i] for i in found.ids] == keyed.index_to_key
    np.testing.assert_array_equal(found.vectors, keyed.vectors)
