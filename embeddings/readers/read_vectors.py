"""Word vectors of strangers: word2vec text and binary, GloVe, safetensors and npy. No pickle is ever opened.

A file is read as a stream and only the wanted words' rows are kept, so that memory follows the vocabulary and
not the file. Nothing is allocated by what a header claims.
"""

import codecs
import gzip
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from embeddings.errors import InputError
from embeddings.files import require_regular
from embeddings.readers import arrays
from embeddings.readers.vocabulary import shown
from embeddings.readers.word2vec_binary import read_binary
from embeddings.readers.word2vec_text import NUMBER_CHARACTERS, is_text_row, read_text
from embeddings.readers.word_vectors import CUT_SHORT, Progress, WordVectors

FORMATS = ("auto", "text", "binary")
PICKLE_SUFFIXES = {".kv", ".pkl", ".pickle", ".pt", ".pth", ".model", ".joblib"}
PICKLE_MAGIC = tuple(bytes([0x80, protocol]) for protocol in range(6))
ZIP_MAGIC = b"PK\x03\x04"
GZIP_MAGIC = b"\x1f\x8b"
FASTTEXT_MAGIC = b"\xba\x16\x4f\x2f"
GZIP_RATIO = 1032  # deflate packs no more than this many bytes into one
EXPORT = "where you trust it, export it by gensim: KeyedVectors.load(FILE).save_word2vec_format('vectors.txt')"
SAMPLE = 1 << 16
"""Bytes looked at to tell text from binary."""
HEADER = re.compile(rb"\s*(\d{1,18})\s+(\d{1,18})\s*")
CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")


def read_vectors(
    path: str | os.PathLike[str],
    wanted: Mapping[str, int],
    *,
    format: str = "auto",
    lowercase_fallback: bool = False,
    vocabulary: str | os.PathLike[str] | None = None,
    vocabulary_hash: str | None = None,
    dim: int | None = None,
    progress: Progress | None = None,
) -> WordVectors:
    """Reads the wanted words' vectors. The first bytes and the suffix tell what kind of file it is.

    Args:
        path: word2vec text or binary, GloVe (no header), gzip of these, safetensors or npy.
        wanted: the id of each word that is looked for.
        format: 'text' or 'binary', where 'auto' would guess wrong between the two word2vec formats.
        lowercase_fallback: a word that the file lacks takes the row of its lower-case form, or, if there is none, the
            first row of the word in any other case.
        vocabulary: for safetensors and npy, the file with the words of the rows, one a line; if None, a file
            ``vocabulary.txt`` beside it.
        vocabulary_hash: `hash_words` of the current vocabulary; an output matrix of ours that was built
            for it needs no vocabulary file: its row i belongs to id i.
        dim: the dimension that is asked for; None for whatever the file has.
        progress: called now and then with the bytes read and the bytes in all; for arrays, with rows.

    Returns:
        The rows found. Rows that nobody wants may hold NaN or infinity; the log counts them for text and binary.

    Raises:
        InputError: the file is missing, damaged or of no known kind; with the line or row where it shows.
    """
    path = Path(path)
    if format not in FORMATS:
        raise InputError("format", "unknown format of vectors", found=format, expected=" | ".join(FORMATS))
    head = _head(path)
    words = None if vocabulary is None else Path(vocabulary)
    found = WordVectors(path, wanted, dim, lowercase_fallback)
    if arrays.is_safetensors(path, head):
        arrays.read_safetensors(found, words, vocabulary_hash, progress)
    elif arrays.is_npy(path, head):
        arrays.read_npy(found, words, progress)
    else:
        _refuse_unsafe(path, head)
        _read_word2vec(found, format, progress)
    return found.finish()


def _read_word2vec(found: WordVectors, format: str, progress: Progress | None) -> None:
    path, size = found.path, found.path.stat().st_size
    with _open_stream(path) as (stream, file):
        sample = stream.read(SAMPLE)
        _refuse_unsafe(path, sample)
        if not sample.strip():
            raise InputError(path, "the file is empty", found="nothing but white space", expected="word vectors")
        header, binary = _recognise(path, sample, format)
        if header:
            _check_claim(path, header, binary, size if stream is file else size * GZIP_RATIO)
        stream.seek(0)

        def report() -> None:
            if progress:
                progress(file.tell(), size)

        if header and binary:
            read_binary(stream, header, found, report)
        else:
            read_text(stream, header, found, report)


def _head(path: Path) -> bytes:
    """The first bytes of a file, which must exist, be readable and not be empty."""
    expected = "a file of word vectors"
    try:
        require_regular(path, expected)
        with open(path, "rb") as file:
            head = file.read(64)
    except FileNotFoundError:
        raise InputError(path, "there is no such file", expected=expected) from None
    except OSError as error:
        raise InputError(path, "cannot be read", found=error.strerror, expected=expected) from None
    if not head:
        raise InputError(path, "the file is empty", found="0 bytes", expected="word vectors")
    return head


def _refuse_unsafe(path: Path, head: bytes) -> None:
    """Raises for pickles, archives and models, by suffix or by first bytes; none of them is opened."""
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix.lower() in PICKLE_SUFFIXES or head.startswith(PICKLE_MAGIC) or _is_pickle_archive(path, head):
        raise InputError(path, "a pickle is refused, since it can run code when it is opened", fix=EXPORT)
    if head.startswith(ZIP_MAGIC):
        raise InputError(path, "a zip archive, not a file of vectors", fix="unzip it and name the file inside")
    if head.startswith(FASTTEXT_MAGIC):
        raise InputError(path, "a fastText model, not a file of vectors", fix="name the .vec file that goes with it")


def _is_pickle_archive(path: Path, head: bytes) -> bool:
    """Whether a zip file holds a pickle, as torch's checkpoints do; only its list of names is read."""
    if not head.startswith(ZIP_MAGIC):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    except Exception:  # zipfile raises errors of many kinds on a damaged one
        return True  # and it is refused the same


@contextmanager
def _open_stream(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The unpacked bytes and the file under them, the same if it is no gzip; damage is an InputError."""
    with open(path, "rb") as file:
        packed = file.read(2) == GZIP_MAGIC
        file.seek(0)
        try:
            yield (cast(IO[bytes], gzip.GzipFile(fileobj=file)) if packed else file), file
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(path, "the gzip file is truncated or damaged", found=error, fix="fetch it again") from None


def _recognise(path: Path, sample: bytes, format: str) -> tuple[tuple[int, int] | None, bool]:
    """The V and N of a word2vec file's first line, None if it has no such line, and whether its rows are binary.

    Raises:
        InputError: the bytes contradict the format asked for, or they are neither text nor binary vectors.
    """
    first, _, rest = sample.removeprefix(codecs.BOM_UTF8).partition(b"\n")
    match = HEADER.fullmatch(first)
    if match is None:
        if format == "binary":
            what, expected = "no word2vec header", "the two numbers V and N"
            raise InputError(f"{path}:1", what, found=shown(first), expected=expected)
        if _looks_binary(first, sample):
            raise InputError(f"{path}:1", "not text", found=shown(first), expected="a word and its numbers")
        return None, False
    header = int(match[1]), int(match[2])
    line = rest.partition(b"\n")[0]
    is_text = is_text_row(line, header[1])
    is_binary = not is_text and _looks_binary(line, rest)
    if format == "text" and is_binary:
        what, fix = "a binary file read as text", "set `format` to binary"
        raise InputError(f"{path}:2", what, found="bytes", expected="digits", fix=fix)
    if format == "binary" and is_text:
        what, fix = "a text file read as binary", "set `format` to text"
        raise InputError(f"{path}:2", what, found="digits", expected="bytes", fix=fix)
    named_binary = path.name.endswith((".bin", ".bin.gz")) and not is_text
    return header, is_binary or named_binary if format == "auto" else format == "binary"


def _check_claim(path: Path, header: tuple[int, int], binary: bool, largest_size: int) -> None:
    """Holds the header against the most bytes that the file can have, before anything relies on it."""
    rows, dim = header
    if not rows or not dim:
        raise InputError(f"{path}:1", "an empty header", found=f"{rows} rows of {dim} numbers", expected="at least 1")
    # The shortest row: no word, a space, four bytes a number; in text a space and a digit each, a newline.
    row_size = 4 * dim + 1 if binary else 2 * dim + 1
    if rows * row_size - 1 > largest_size:
        raise InputError(
            f"{path}:1", "the header claims more than the file holds",
            found=f"{rows:,} rows of {dim:,} numbers",
            expected=f"at most {(largest_size + 1) // row_size:,} rows in {largest_size:,} bytes",
            fix=CUT_SHORT,
        )  # fmt: skip


def _looks_binary(line: bytes, rest: bytes) -> bool:
    """Whether a row and what follows it are no text: few digits among the numbers, and bytes that no text has.

    One wrong byte among digits leaves a text file a text file, so that the error names its line.
    """
    values = line.partition(b" ")[2]
    digits = len(values) - len(values.translate(None, NUMBER_CHARACTERS))
    few_digits = 2 * digits <= len(values)
    return few_digits and (b"\0" in rest or CONTROL.search(line) is not None or not _is_utf8(values))


def _is_utf8(content: bytes) -> bool:
    """Whether some bytes are UTF-8, as far as they go."""
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return error.end == len(content)
    return True
