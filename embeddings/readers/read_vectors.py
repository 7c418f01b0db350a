"""Word vectors of strangers: word2vec text and binary, GloVe, safetensors and npy. No pickle is ever opened.

A file is read as a stream and only the wanted words' rows are kept, so that memory follows the vocabulary and
not the file; nothing is allocated by what a header claims.
"""

from __future__ import annotations

import gzip
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from embeddings.errors import InputError
from embeddings.readers import arrays as array_files
from embeddings.readers import word2vec_format
from embeddings.readers.found_vectors import FoundVectors, ReadProgress
from embeddings.readers.word2vec_binary import read_binary
from embeddings.readers.word2vec_text import read_text

FORMATS = ("auto", "text", "binary")
PICKLE_SUFFIXES = {".kv", ".pkl", ".pickle", ".pt", ".pth", ".model", ".joblib"}
PICKLE_MAGIC = tuple(bytes([0x80, protocol]) for protocol in range(6))
ZIP_MAGIC = b"PK\x03\x04"
GZIP_MAGIC = b"\x1f\x8b"
FASTTEXT_MAGIC = b"\xba\x16\x4f\x2f"
GZIP_RATIO = 1032  # deflate packs no more than this many bytes into one
EXPORT = (
    "where you trust it, export it by gensim: KeyedVectors.load(FILE).save_word2vec_format('vectors.txt')"
)


def read_vectors(
    path: str | os.PathLike[str],
    wanted: Mapping[str, int],
    *,
    format: str = "auto",
    vocabulary: str | os.PathLike[str] | None = None,
    vocabulary_hash: str | None = None,
    dim: int | None = None,
    progress: ReadProgress | None = None,
) -> FoundVectors:
    """Reads the wanted words' vectors; what kind of file it is, its first bytes and its suffix tell.

    Args:
        path: word2vec text or binary, GloVe (no header), gzip of these, safetensors or npy.
        wanted: the id of each word that is looked for.
        format: 'text' or 'binary', where 'auto' would guess wrong between the two word2vec formats.
        vocabulary: for safetensors and npy, the file with the words of the rows, one a line; if None, a file
            ``vocabulary.txt`` beside it.
        vocabulary_hash: `hash_words` of the current vocabulary; an output matrix of ours that was built
            for it needs no vocabulary file: its row i belongs to id i.
        dim: the dimension that is asked for; None for whatever the file has.
        progress: called now and then with the bytes read and the bytes in all.

    Returns:
        The rows found. In text and binary every row's values are checked, in arrays those of the rows kept.

    Raises:
        InputError: the file is missing, damaged or of no known kind; with the line or row where it shows.
    """
    path = Path(path)
    if format not in FORMATS:
        raise InputError("format", "unknown format of vectors", found=format, expected=" | ".join(FORMATS))
    head = _head(path)
    if array_files.is_safetensors(path, head):
        return array_files.read_safetensors(path, wanted, vocabulary, vocabulary_hash, progress, dim)
    if array_files.is_npy(path, head):
        return array_files.read_npy(path, wanted, vocabulary, progress, dim)
    _refuse_unsafe(path, head)
    return _read_word2vec(path, wanted, format, progress, dim)


def _read_word2vec(
    path: Path, wanted: Mapping[str, int], format: str, progress: ReadProgress | None, dim: int | None
) -> FoundVectors:
    found = FoundVectors(path, dim)
    size = path.stat().st_size
    with _open_stream(path) as (stream, file):
        sample = stream.read(word2vec_format.SAMPLE)
        _refuse_unsafe(path, sample)
        if not sample.strip():
            raise InputError(
                path, "the file is empty", found="nothing but white space", expected="word vectors"
            )
        layout = word2vec_format.detect(path, sample, format)
        word2vec_format.check_claim(path, layout, size if stream is file else size * GZIP_RATIO)
        stream.seek(0)
        read = read_binary if layout.binary else read_text
        read(stream, layout, found, wanted, lambda: progress(file.tell(), size) if progress else None)
    return found.finish()


def _head(path: Path) -> bytes:
    """The first bytes of a file, which must exist, be readable and not be empty."""
    try:
        if (
            path.exists() and not path.is_file() and not path.is_dir()
        ):  # a pipe would be waited for without end
            raise InputError(path, "not a file", found="a special file", expected="a file of word vectors")
        with open(path, "rb") as file:
            head = file.read(64)
    except FileNotFoundError:
        raise InputError(path, "there is no such file", expected="a file of word vectors") from None
    except OSError as error:
        raise InputError(
            path, "cannot be read", found=error.strerror, expected="a file of word vectors"
        ) from None
    if not head:
        raise InputError(path, "the file is empty", found="0 bytes", expected="word vectors")
    return head


def _refuse_unsafe(path: Path, head: bytes) -> None:
    """Raises for pickles, archives and models, by suffix or by first bytes; none of them is opened."""
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix.lower() in PICKLE_SUFFIXES or head.startswith(PICKLE_MAGIC) or _is_pickle_archive(path, head):
        raise InputError(path, "a pickle is refused, since it can run code when it is opened", fix=EXPORT)
    if head.startswith(ZIP_MAGIC):
        raise InputError(
            path, "a zip archive, not a file of vectors", fix="unzip it and name the file inside"
        )
    if head.startswith(FASTTEXT_MAGIC):
        raise InputError(
            path, "a fastText model, not a file of vectors", fix="name the .vec file that goes with it"
        )


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
            raise InputError(
                path, "the gzip file is truncated or damaged", found=error, fix="fetch it again"
            ) from None
