"""A folder of text files, one for each split."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from embeddings.errors import InputError
from embeddings.registry import Progress
from fixlm.corpus.data_set import SPLITS, DataSet, Line, without_end

FILE_NAMES = ("{}.txt", "wiki.{}.tokens")
PIECE_BYTES = 1 << 20
"""Longer lines are read in pieces of this size, so that one line of 100 MB needs no gigabytes of words."""


def open_folder(folder: Path, progress: Progress | None = None) -> DataSet:
    """A folder with the three splits, all named in one of the ways of `FILE_NAMES`.

    Args:
        folder: it exists.
        progress: told how much of a file is read.

    Raises:
        InputError: a split is missing, is no file or cannot be read.
    """
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
    return DataSet(
        name, content.hexdigest(), lambda split: read_lines(paths[split], progress), lambda split: str(paths[split])
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
            words = _decode(chunk[:cut], path, number, before).split()
            yield without_end(words) if ends else words, ends
            before = 0 if ends else before + cut
            number += ends
        if before or rest:
            yield without_end(_decode(rest, path, number, before).split()), True


def _decode(content: bytes, path: Path, number: int, before: int) -> str:
    if b"\0" in content:
        raise InputError(f"{path}:{number}", "a NUL byte", found=f"byte {before + content.index(0)} of the line")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        found = f"0x{content[error.start]:02x} at byte {before + error.start} of the line"
        fix = "convert the file to UTF-8"
        raise InputError(f"{path}:{number}", "not UTF-8", found=found, fix=fix) from None
