"""Arrays (rows, N) in safetensors and npy, whose words stand elsewhere: see `embeddings.readers.vocabulary`."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embeddings.errors import InputError
from embeddings.files import parse_json, require_regular
from embeddings.readers.vocabulary import words_of_rows
from embeddings.readers.word_vectors import ROWS_BETWEEN_REPORTS, Progress, Row, WordVectors

NPY_MAGIC = b"\x93NUMPY"
FLOAT_TYPES = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}
"""Of safetensors, and of numpy, which has no bfloat16: its bits are read as whole numbers."""


def is_safetensors(path: Path, head: bytes) -> bool:
    """Whether the file is safetensors: by suffix, or by the opening of its JSON header after eight bytes."""
    return path.suffix == ".safetensors" or head[8:10] == b'{"'


def is_npy(path: Path, head: bytes) -> bool:
    """Whether the file is one array of numpy's."""
    return path.suffix == ".npy" or head.startswith(NPY_MAGIC)


def is_array(path: Path) -> bool:
    """Whether the file is one of both, which name no words; False where it cannot be read."""
    try:
        require_regular(path, "a file")
        with open(path, "rb") as file:
            head = file.read(16)
    except (OSError, InputError):
        return False
    return is_safetensors(path, head) or is_npy(path, head)


def read_safetensors(
    found: WordVectors, vocabulary: Path | None, vocabulary_hash: str | None, progress: Progress | None
) -> None:
    """Reads the tensor ``vectors``, or the only 2-D tensor of floats; see `read_vectors`."""
    path = found.path
    name, shape, kind, metadata = _tensor(path)
    if 0 in shape:
        raise InputError(path, "no vectors in the tensor", found=f"{name} {list(shape)}", expected="rows of numbers")
    try:
        recipe = parse_json(metadata.get("recipe", "{}"))
    except ValueError as error:
        raise InputError(path, "the recipe in its metadata is no JSON", found=error) from None
    recipe = recipe if isinstance(recipe, dict) else {}  # of strangers it may be anything
    array = _map(path, name, shape, kind)
    words = words_of_rows(path, len(array), found.wanted, vocabulary, vocabulary_hash, recipe)
    digest = _read_rows(array, words, found, progress, bfloat16=kind == "BF16")
    if (expected := recipe.get("sha256")) not in (None, digest):
        raise InputError(path, "the vectors were changed since they were built", found=digest, expected=expected)


def read_npy(found: WordVectors, vocabulary: Path | None, progress: Progress | None) -> None:
    """Reads a (rows, N) array, which is mapped, not read whole; one of objects is refused."""
    path = found.path
    try:
        # Unlike np.load it knows neither pickles nor zip files.
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # numpy parses the header by Python's tokenizer, which raises many kinds
        if "object" in str(error).lower():
            raise InputError(
                path, "a pickle inside an npy file is refused, since it can run code when it is opened",
                found="an array of objects", expected="an array of floats",
            )  from None  # fmt: skip
        raise InputError(path, "not a whole npy file", found=error, fix="write it again by numpy.save") from None
    if array.ndim != 2 or array.dtype.kind not in "fiu" or not array.size:
        shape = f"shape {array.shape}, {array.dtype}"
        raise InputError(path, "not an array of vectors", found=shape, expected="(rows, N) floats")
    _read_rows(array, words_of_rows(path, len(array), found.wanted, vocabulary, None, {}), found, progress)


def _tensor(path: Path) -> tuple[str, tuple[int, ...], str, dict[str, str]]:
    """The tensor ``vectors`` or the only 2-D one of floats: its name, shape and type, and the file's metadata."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118, no dict
            kinds = {key: (tuple(each.get_shape()), each.get_dtype()) for key, each in tensors.items()}
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from None
    suitable = [name for name, (shape, kind) in kinds.items() if len(shape) == 2 and kind in FLOAT_TYPES]
    if "vectors" not in suitable and ("vectors" in kinds or len(suitable) != 1):
        found = ", ".join(f"{name} {kind}{[*shape]}" for name, (shape, kind) in sorted(kinds.items())[:8])
        raise InputError(
            path, "no tensor to take vectors from", found=found or "no tensor",
            expected="'vectors', or one 2-D tensor only, of float16, bfloat16, float32 or float64",
        )  # fmt: skip
    name = "vectors" if "vectors" in suitable else suitable[0]
    return name, *kinds[name], metadata


def _map(path: Path, name: str, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """A tensor that the library has checked, mapped by numpy, since the library gives numpy no bfloat16."""
    try:
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            offset = 8 + size + parse_json(file.read(size))[name]["data_offsets"][0]
        return np.memmap(path, FLOAT_TYPES[kind], "r", offset, shape)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(path, "not a whole safetensors file", found=error, fix="fetch or build it again")


def _read_rows(
    array: np.ndarray, words: Sequence[str], found: WordVectors, progress: Progress | None, *, bfloat16: bool = False
) -> str:
    """Keeps the wanted rows, a block at a time; the SHA-256 of all rows as little-endian float32."""
    found.set_dim(array.shape[1])
    digest = hashlib.sha256()
    for start in range(0, len(array), ROWS_BETWEEN_REPORTS):
        block = array[start : start + ROWS_BETWEEN_REPORTS]
        if bfloat16:  # the upper half of a float32
            block = (block.astype("<u4") << 16).view("<f4")
        with np.errstate(over="ignore"):  # a float64 too large for float32 becomes inf and is refused as that
            vectors = np.ascontiguousarray(block, dtype="<f4")
        digest.update(vectors.data)
        for number, vector in enumerate(vectors, start):
            where = f"{found.path}: row {number + 1}"
            if found.wants(words[number], where):
                found.keep(Row(words[number], vector.copy(), where))
        if progress:
            progress(start + len(vectors), len(array))
    return digest.hexdigest()
