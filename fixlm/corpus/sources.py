"""Where text comes from: a folder, WikiText-2 or the built-in sample; lines of words for each split."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from embeddings.errors import InputError, unknown_name
from embeddings.registry import Progress

SPLITS = ("train", "valid", "test")
DATA_NAMES = ("auto", "wikitext-2", "sample")
FILE_NAMES = ("{}.txt", "wiki.{}.tokens")
PIECE_BYTES = 1 << 20
"""Longer lines are read in pieces of this size, so that one line of 100 MB needs no gigabytes of words."""

Log = Callable[[str], None]
Line = tuple[list[str], bool]
"""Words of a line and whether they end it (False for a piece of a very long line)."""


@dataclass(frozen=True)
class Source:
    """Where the lines come from.

    Args:
        name: the corpus' short name.
        content: a hash of all that the lines depend on; sources with the same content share a cached copy.
        lines: gives the lines of a split, anew at each call.
        describe: what to call a split in an error.
    """

    name: str
    content: str
    lines: Callable[[str], Iterator[Line]]
    describe: Callable[[str], str]


def find_source(data: str, log: Log, progress: Progress | None = None) -> Source:
    """The source that ``--data`` names; ``progress`` is told how much of a file is read."""
    if data == "auto":
        try:
            return _wikitext()
        except InputError as error:
            reason = error.args[0].removeprefix("--data wikitext-2: ")
            log(f"--data auto: using the built-in sample. {reason}")
            return _sample()
    if data == "wikitext-2":
        return _wikitext()
    if data == "sample":
        return _sample()
    folder = Path(os.path.expanduser(data))
    if os.path.isdir(data and folder):  # of os.path, since Path's raise errors of their own; '' is no folder
        return _folder(folder, progress)
    expected = "a folder with train.txt, valid.txt and test.txt"
    if data and os.path.exists(folder):
        raise InputError("--data", "not a folder", found=data, expected=expected)
    if data != folder.name:
        raise InputError("--data", "there is no such folder", found=data, expected=expected)
    raise unknown_name("--data", "data set or folder", data, [*DATA_NAMES, "a folder with the three splits"])


def _folder(folder: Path, progress: Progress | None) -> Source:
    """A folder with the three splits; all under one of the two ways to name them."""
    pattern = next((p for p in FILE_NAMES if os.path.exists(folder / p.format("train"))), FILE_NAMES[0])
    paths = {split: folder / pattern.format(split) for split in SPLITS}
    content = hashlib.sha256()
    for split, path in paths.items():
        if not os.path.exists(path):
            expected = " or ".join(p.format(split) for p in FILE_NAMES)
            raise InputError(path, f"the {split} split is missing", expected=expected)
        if not path.is_file():
            raise InputError(path, "not a file", found="a directory" if path.is_dir() else "a special file")
        try:
            with open(path, "rb") as file:
                content.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise InputError(path, f"cannot be read: {error.strerror}") from None
    name = folder.resolve().name or "data"
    return Source(
        name,
        content.hexdigest(),
        lambda split: read_lines(paths[split], progress),
        lambda split: str(paths[split]),
    )


def _wikitext() -> Source:
    from fixlm.corpus import wikitext

    rows = wikitext.load()
    content = hashlib.sha256()
    for split in SPLITS:
        for row in rows[split]:
            content.update(row.encode() + b"\n")
        content.update(b"\0")
    return _of_rows("wikitext-2", content.hexdigest(), lambda: rows)


def _sample() -> Source:
    from fixlm.corpus import builtin_text as sample

    # Built at most once, and only if there is no cached copy.
    return _of_rows("sample", sample.content_hash(), cache(sample.build))


def _of_rows(name: str, content: str, rows: Callable[[], Mapping[str, Sequence[str]]]) -> Source:
    return Source(
        name,
        content,
        lambda split: ((row.split(), True) for row in rows()[split]),
        lambda split: f"the {split} split of {name}",
    )


def read_lines(path: Path, progress: Progress | None = None) -> Iterator[Line]:
    r"""Lines of a UTF-8 file, as words; only ``\n`` ends a line, and a BOM at the start is dropped.

    ``progress`` is called after every `PIECE_BYTES`: never for a small file.

    Raises:
        InputError: bytes that are not UTF-8, or a NUL; names the line.
    """
    with open(path, "rb") as file:
        number, before, rest = 1, 0, b""  # line, its bytes that are already yielded, and those still to be
        size, done, told = os.fstat(file.fileno()).st_size, 0, 0
        while chunk := file.readline(PIECE_BYTES):
            done += len(chunk)
            if progress and done - told >= PIECE_BYTES:
                told = done
                progress(f"reading {path.name}", done, size)
            if number == 1 and not before and not rest:
                chunk = chunk.removeprefix(b"\xef\xbb\xbf")
            chunk = rest + chunk
            ends = chunk.endswith(b"\n")
            # A space byte is never a part of another character, so that a cut there is safe.
            cut = len(chunk) if ends else chunk.rfind(b" ") + 1
            rest = chunk[cut:]
            yield _decode(chunk[:cut], path, number, before).split(), ends
            before = 0 if ends else before + cut
            number += ends
        if before or rest:
            yield _decode(rest, path, number, before).split(), True


def _decode(content: bytes, path: Path, number: int, before: int) -> str:
    if b"\0" in content:
        raise InputError(
            f"{path}:{number}", "a NUL byte", found=f"byte {before + content.index(0)} of the line"
        )
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        found = f"0x{content[error.start]:02x} at byte {before + error.start} of the line"
        fix = "convert the file to UTF-8"
        raise InputError(f"{path}:{number}", "not UTF-8", found=found, fix=fix) from None


def no_words(source: Source, split: str) -> InputError:
    """The error for a split that is empty or blank."""
    return InputError(
        source.describe(split), "there is no word in it", expected=f"the text of the {split} split"
    )
