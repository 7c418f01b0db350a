"""Arrays that name no words, safetensors and npy, and the vocabulary file that names them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from embeddings import plain_json
from embeddings.errors import InputError
from embeddings.readers.found_vectors import FoundVectors, ReadProgress, require_finite
from embeddings.readers.word2vec_format import decoded
from embeddings.statistics import hash_words

SUFFIXES = (".safetensors", ".npy")
NPY_MAGIC = b"\x93NUMPY"
ROWS_A_BLOCK = 4096
FLOAT_TYPES = {"F16", "F32", "F64"}
NEEDS_WORDS = "give the words of its rows, one a line, by --vocabulary FILE or as vocabulary.txt beside it"


def is_safetensors(path: Path, head: bytes) -> bool:
    """Whether the file is safetensors: by suffix, or by the opening of its JSON header after eight bytes."""
    return path.suffix == ".safetensors" or head[8:10] == b'{"'


def is_npy(path: Path, head: bytes) -> bool:
    """Whether the file is one array of numpy's."""
    return path.suffix == ".npy" or head.startswith(NPY_MAGIC)


def read_safetensors(
    path: Path,
    wanted: Mapping[str, int],
    vocabulary: str | os.PathLike[str] | None,
    vocabulary_hash: str | None,
    progress: ReadProgress | None = None,
    dim: int | None = None,
) -> FoundVectors:
    """The wanted rows of the tensor ``vectors``, or of the only 2-D tensor of floats; see `read_vectors`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            name = _tensor_name(path, {key: file.get_slice(key) for key in file.keys()})  # noqa: SIM118, no dict
            tensor = file.get_slice(name)
            shape = tuple(tensor.get_shape())
            if 0 in shape:
                raise InputError(
                    path,
                    "no vectors in the tensor",
                    found=f"{name} {list(shape)}",
                    expected="rows of numbers",
                )
            recipe = _recipe(path, file.metadata() or {})
            ids = _row_ids(path, shape[0], wanted, vocabulary, vocabulary_hash, recipe)
            digest = hashlib.sha256()
            found = _read_rows(path, shape, lambda a, b: tensor[a:b], ids, progress, dim, digest.update)
    except (SafetensorError, OSError) as error:
        raise InputError(
            path, "not a whole safetensors file", found=error, fix="fetch or build it again"
        ) from None
    if recipe.get("sha256") not in (None, digest.hexdigest()):
        raise InputError(
            path,
            "the vectors were changed since they were built",
            found=digest.hexdigest(),
            expected=recipe["sha256"],
        )
    return found


def read_npy(
    path: Path,
    wanted: Mapping[str, int],
    vocabulary: str | os.PathLike[str] | None,
    progress: ReadProgress | None = None,
    dim: int | None = None,
) -> FoundVectors:
    """The wanted rows of a (rows, N) array, which is mapped, not read whole; one of objects is refused."""
    try:
        array = np.lib.format.open_memmap(
            path, mode="r"
        )  # unlike np.load it knows neither pickles nor zip files
    except (
        Exception
    ) as error:  # numpy parses the header by Python's tokenizer, which raises errors of many kinds
        if "object" in str(error).lower():
            raise InputError(
                path, "a pickle inside an npy file is refused, since it can run code when it is opened",
                found="an array of objects", expected="an array of floats",
            )  from None  # fmt: skip
        raise InputError(
            path, "not a whole npy file", found=error, fix="write it again by numpy.save"
        ) from None
    if array.ndim != 2 or array.dtype.kind not in "fiu" or not array.size:
        raise InputError(
            path,
            "not an array of vectors",
            found=f"shape {array.shape}, {array.dtype}",
            expected="(rows, N) floats",
        )
    ids = _row_ids(path, array.shape[0], wanted, vocabulary, None, {})
    return _read_rows(path, array.shape, lambda a, b: array[a:b], ids, progress, dim)


def read_vocabulary(path: str | os.PathLike[str]) -> list[str]:
    r"""The words of a vocabulary file in order of its lines; only ``\n`` (or ``\r\n``) ends a line."""
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except FileNotFoundError:
        raise InputError(
            path, "there is no such file", expected="the words of the rows, one a line"
        ) from None
    except OSError as error:
        raise InputError(path, "cannot be read", found=error.strerror, expected="one word a line") from None
    if not lines[-1]:
        lines.pop()
    if not lines:
        raise InputError(path, "the vocabulary file is empty", found="no word", expected="one word a line")
    return [
        decoded(line.removesuffix(b"\r"), f"{path}:{number}") for number, line in enumerate(lines, start=1)
    ]


def _row_ids(
    path: Path,
    rows: int,
    wanted: Mapping[str, int],
    vocabulary: str | os.PathLike[str] | None,
    vocabulary_hash: str | None,
    recipe: dict[str, Any],
) -> list[tuple[str, int | None]]:
    """The word of each row of an array, and its id if it is wanted."""
    built_for = recipe.get("vocabulary_sha256")
    if vocabulary is None and built_for is not None and built_for == vocabulary_hash:
        words = sorted(wanted, key=wanted.__getitem__)[:rows]
        size = recipe.get("vocabulary_size", len(words))
        if not rows == size == len(words):
            raise InputError(
                path, "rows and vocabulary differ", found=f"{rows} rows", expected=f"{size} by its recipe"
            )
        return [(word, wanted[word]) for word in words]
    beside = path.with_name("vocabulary.txt")
    if vocabulary is None and beside.is_file():
        vocabulary = beside
    if built_for is not None and (vocabulary is None or hash_words(read_vocabulary(vocabulary)) != built_for):
        found = (
            vocabulary_hash
            if vocabulary is None
            else f"{hash_words(read_vocabulary(vocabulary))} of {vocabulary}"
        )
        raise InputError(
            path, "a matrix built for another vocabulary is refused", found=f"vocabulary SHA-256 {found}",
            expected=built_for, fix=f"build it anew, or {NEEDS_WORDS}",
        )  # fmt: skip
    if vocabulary is None:
        raise InputError(path, "an array names no words", fix=NEEDS_WORDS)
    words = read_vocabulary(vocabulary)
    if len(words) != rows:
        raise InputError(
            vocabulary,
            "words and rows differ",
            found=f"{len(words)} words",
            expected=f"the {rows} rows of {path}",
        )
    return [(word, wanted.get(word)) for word in words]


def _read_rows(
    path: Path,
    shape: tuple[int, ...],
    block: Callable[[int, int], np.ndarray],
    row_words: list[tuple[str, int | None]],
    progress: ReadProgress | None,
    dim: int | None,
    see: Callable[[bytes], object] | None = None,
) -> FoundVectors:
    """Keeps the wanted rows, block by block; ``see`` is shown all of them as little-endian float32."""
    found = FoundVectors(path, dim)
    found.set_dim(shape[1])
    for start in range(0, shape[0], ROWS_A_BLOCK):
        rows = block(start, min(start + ROWS_A_BLOCK, shape[0]))
        with np.errstate(over="ignore"):  # a float64 too large for float32 becomes inf and is refused as that
            rows = np.ascontiguousarray(rows, dtype="<f4")
        if see:
            see(rows.tobytes())
        for row, (number, (word, word_id)) in zip(
            rows, enumerate(row_words[start:], start + 1), strict=False
        ):
            where = f"{path}: row {number}"
            if found.wants(word, word_id, where) and word_id is not None:
                require_finite(row, where, word)
                found.keep(word_id, row.copy())
        if progress:
            progress(start + len(rows), shape[0])
    return found.finish()


def _tensor_name(path: Path, tensors: dict[str, Any]) -> str:
    """The tensor to read: ``vectors``, or the only one that is 2-D and of floats."""
    suitable = [
        name
        for name, tensor in tensors.items()
        if len(tensor.get_shape()) == 2 and tensor.get_dtype() in FLOAT_TYPES
    ]
    if "vectors" in suitable:
        return "vectors"
    if "vectors" in tensors or len(suitable) != 1:
        described = ", ".join(
            f"{name} {t.get_dtype()}{t.get_shape()}" for name, t in sorted(tensors.items())[:8]
        )
        raise InputError(
            path, "no tensor to take vectors from", found=described or "no tensor",
            expected="'vectors', or one 2-D tensor only, of float16, float32 or float64",
        )  # fmt: skip
    return suitable[0]


def _recipe(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    """The recipe of an output matrix of ours; empty for anything else."""
    try:
        recipe = plain_json.parse(metadata.get("recipe", "{}"))
    except ValueError as error:
        raise InputError(path, "the recipe in its metadata is no JSON", found=error) from None
    return recipe if isinstance(recipe, dict) else {}
