"""From a method's name to an output matrix or a codebook, built anew or taken from the cache."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from embeddings import registry
from embeddings.codebook import Codebook
from embeddings.errors import InputError
from embeddings.files import StoredArray, hash_array
from embeddings.methods.missing_words import fill_missing
from embeddings.output_matrix import OutputMatrix, hash_vectors, unit_rows
from embeddings.registry import Progress, silent
from embeddings.statistics import CorpusStatistics

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

logger = logging.getLogger("embeddings")

RECIPE_VERSION = 1
"""Part of every recipe: raised when a builder gives other vectors for the same options, so that no cache is stale."""


def request(method: str, statistics: CorpusStatistics, dim: int | None, seed: int, options: Any) -> dict[str, Any]:
    """The recipe as far as it is known before anything is built: all that the vectors depend on.

    A method whose vectors depend on more than its options' values (a file, say) gives them by ``recipe(options)``.
    """
    module = registry.get(method)
    described = module.recipe(options) if hasattr(module, "recipe") else dataclasses.asdict(options)
    recipe = describe(method, statistics, dim, seed, described)
    return recipe | (_text_of(statistics, method) if module.NEEDS_CORPUS else {})


def describe(
    method: str, statistics: CorpusStatistics, dim: int | None, seed: int, options: dict[str, Any]
) -> dict[str, Any]:
    """The part of a recipe that all matrices have."""
    version = getattr(registry.get(method), "VERSION", None) if method in registry.names() else None
    return {
        "version": RECIPE_VERSION,
        "method": method,
        "options": options,
        "dim": dim,
        "seed": seed,
        "vocabulary_size": len(statistics),
        "vocabulary_sha256": statistics.vocabulary_hash,
        **({} if version is None else {"method_version": version}),
    }


def _text_of(statistics: CorpusStatistics, method: str) -> dict[str, Any]:
    """The part of a recipe that is about the text; its counts and the end of its lines only where they are unusual."""
    ids, words = statistics.text(method), [*statistics.words]
    usual = words.index("<eos>") if "<eos>" in words else None
    about: dict[str, Any] = {"corpus_sha256": hash_array(ids, "<i4")}
    if statistics.end_of_line != usual:
        about["end_of_line"] = statistics.end_of_line
    if not np.array_equal(statistics.counts, np.bincount(ids, minlength=len(statistics))):
        about["counts_sha256"] = hash_array(np.asarray(statistics.counts), "<i8")
    return about


def build(
    method: str,
    statistics: CorpusStatistics,
    dim: int | None,
    seed: int = 1,
    options: Any = None,
    progress: Progress | None = None,
) -> OutputMatrix:
    """Builds an output matrix.

    Args:
        method: a registered name, see `embeddings.names`.
        statistics: vocabulary, counts and, for methods that read text, the ids of the train split.
        dim: N, the length of a row; None only for a method with ``OWN_DIM``, whose file or options tell it.
        seed: all randomness of the builder comes from it; the same seed gives the same bytes.
        options: the method's own `Options`; its defaults if None.
        progress: called with what is being done, the part done and the whole.

    Returns:
        The vectors (V, N), rows of norm 1, with their recipe.

    Raises:
        InputError: an option, the dimension or a file is unusable, or the result is not finite.
    """
    module = registry.get(method)
    options = module.Options() if options is None else options
    if dim is None and not getattr(module, "OWN_DIM", False):
        raise InputError("dim", f"{method} needs a dimension")
    if dim is not None and dim < 1:
        raise InputError("dim", "the dimension must be positive", found=dim, expected="at least 1")
    recipe = request(method, statistics, dim, seed, options)
    return finish(module.build(statistics, dim, seed, options, progress or silent), recipe)


def from_keyed_vectors(keyed: KeyedVectors, statistics: CorpusStatistics, seed: int = 1) -> OutputMatrix:
    """An output matrix from gensim's vectors: aligned by word, missing words as in `missing_words`.

    A word whose vector is zero is missing too.

    Args:
        keyed: vectors of length N under words.
        statistics: the vocabulary to align with.
        seed: of the noise on the missing words' vectors.

    Raises:
        InputError: not one word of the vocabulary is in ``keyed``.
    """
    empty = {word for word, row in keyed.key_to_index.items() if not keyed.vectors[row].any()}
    missing = np.array([word not in keyed.key_to_index or word in empty for word in statistics.words])
    if missing.all():
        examples = ", ".join(map(repr, list(keyed.key_to_index)[:5]))
        raise InputError("keyed vectors", "no word in common with the vocabulary", found=f"words such as {examples}")
    vectors = np.zeros((len(statistics), keyed.vector_size), dtype=np.float32)
    there = [word for word, lacks in zip(statistics.words, missing, strict=True) if not lacks]
    vectors[~missing] = keyed.vectors[[keyed.key_to_index[word] for word in there]]
    recipe = describe("keyed-vectors", statistics, keyed.vector_size, seed, {"sha256": hash_vectors(keyed.vectors)})
    fill_missing(vectors, missing, np.random.default_rng(seed))
    return finish(vectors, recipe)


def finish(vectors: np.ndarray, recipe: dict[str, Any]) -> OutputMatrix:
    """The matrix with its rows scaled to norm 1; raises InputError if a value is not finite or a row is zero."""
    vectors = unit_rows(vectors)
    if not np.isfinite(vectors).all():
        fix = "look at the options and the text"
        raise InputError(recipe["method"], "the matrix has values that are not finite", fix=fix)
    if empty := (~vectors.any(axis=1)).sum():
        raise InputError(recipe["method"], "the matrix has rows of zeros", found=f"{empty} of {len(vectors)}")
    return OutputMatrix(vectors, recipe | {"dim": vectors.shape[1], "sha256": hash_vectors(vectors)})


def build_cached(
    method: str,
    statistics: CorpusStatistics,
    dim: int | None,
    seed: int = 1,
    options: Any = None,
    progress: Progress | None = None,
    *,
    directory: str | Path,
) -> OutputMatrix:
    """`build`, unless ``directory`` holds a matrix of the same recipe; a damaged file there is built anew."""
    options = registry.get(method).Options() if options is None else options
    recipe = request(method, statistics, dim, seed, options)
    make = functools.partial(build, method, statistics, dim, seed, options, progress)
    return cached(OutputMatrix, make, method, recipe, directory)


S = TypeVar("S", bound=StoredArray)


def cached(kind: type[S], make: Callable[[], S], name: str, recipe: dict[str, Any], directory: str | Path) -> S:
    """What ``make`` gives, or what it gave before for the same recipe, from a file in ``directory``.

    A damaged file is made anew; a cache that cannot be written costs a warning.
    """
    path = _place(name, recipe, directory)
    if path.exists():
        try:
            return kind.load(path)
        except InputError:
            with contextlib.suppress(OSError):  # what can only be read is told of below
                path.unlink()
    return keep(make(), name, recipe, directory)


def keep(made: S, name: str, recipe: dict[str, Any], directory: str | Path) -> S:
    """What was made, which is then in ``directory`` too, in place of what was there."""
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
        made.save(_place(name, recipe, directory))
    except OSError as error:
        logger.warning("the matrix is not kept, since the cache cannot be written: %s", error)
    return made


def _place(name: str, recipe: dict[str, Any], directory: str | Path) -> Path:
    key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
    return Path(directory) / f"{name}-{key[:32]}.safetensors"


Prepared = OutputMatrix | Codebook


def prepare(
    method: str,
    statistics: CorpusStatistics,
    dim: int | None,
    seed: int,
    options: Any,
    progress: Progress | None = None,
    *,
    directory: str | Path,
) -> Prepared:
    """The codebook of a method of codes, the matrix of any other; from ``directory`` if it was built before.

    Args:
        dim: N of a matrix; codes have a length of their own.

    Raises:
        InputError: as `embeddings.build`.
    """
    if kind_of(method) is OutputMatrix:
        return build_cached(method, statistics, dim, seed, options, progress, directory=directory)
    module: Any = registry.get(method)
    recipe = describe(method, statistics, None, seed, module.used(options))
    if module.reads_text(options):
        recipe |= _text_of(statistics, method)
    elif (np.diff(statistics.counts) > 0).any():  # a corpus has its words by falling count, which say no more then
        recipe["counts_sha256"] = hash_array(np.asarray(statistics.counts), "<i8")

    def make() -> Codebook:
        slots = module.slots(statistics, seed, options, progress or silent).astype(np.int32)  # (V,)
        return Codebook(slots, recipe | {"sha256": hash_array(slots, Codebook.DTYPE)})

    return cached(Codebook, make, f"{method}-slots", recipe, directory)


def kind_of(method: str) -> type[Prepared]:
    """The class of what `prepare` gives, which also reads it from a file."""
    return Codebook if getattr(registry.get(method), "CODES", False) else OutputMatrix
