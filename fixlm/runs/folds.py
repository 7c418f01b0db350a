"""The vectors that a run with cross-fitting reads in training: built, kept beside its checkpoints, read and removed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from embeddings.cross_fit import FoldVectors, fold_vectors
from fixlm.cache_directory import cache_directory
from fixlm.config.command_line import naming_flags
from fixlm.config.train_config import TrainConfig
from fixlm.errors import InputError
from fixlm.runs.directory import RunDirectory, writing
from fixlm.runs.new_model import feature_flag

if TYPE_CHECKING:
    from embeddings.registry import Progress
    from fixlm.corpus.corpus import Corpus

logger = logging.getLogger(__name__)

FLAG = "--cross-fit"
LARGEST_DEFAULT = 2e9
"""Bytes of vectors that a run takes where nobody asked for folds: a large vocabulary would fill the memory."""

Folds = Mapping[str, FoldVectors]
"""By ``input`` and ``output``, the end of the model that reads them; one object where both ends read the same."""


def new_folds(config: TrainConfig, corpus: Corpus, progress: Progress) -> Folds:
    """The vectors counted without each fold of the train split, from the cache where they were built before.

    Where no flag asked for folds, a text that is too short for them has none, and a vocabulary that is too large.

    Raises:
        InputError: they cannot be built as the flags ask.
    """
    if not config.folds_by_default:
        return _build(config, corpus, progress)
    numbers = sum(len(corpus.words) * dim for _, dim in {*config.cross_fitted().values()})
    size = 2 * (config.folds + 1) * numbers
    reason = f"the vectors of {config.folds} folds would take {size / 1e6:,.0f} MB"
    if size <= LARGEST_DEFAULT:
        try:
            return _build(config, corpus, progress)
        except InputError as error:
            if error.where != FLAG:
                raise
            reason = str(error).removeprefix(f"{FLAG}: ").partition(" (")[0]
    logger.info(f"no cross-fitting: {reason}. {FLAG} sets the number of folds.")
    return {}


def _build(config: TrainConfig, corpus: Corpus, progress: Progress) -> Folds:
    found: dict[tuple[str, int], FoldVectors] = {}
    ends = {}
    for end, (method, dim) in config.cross_fitted().items():
        if (method, dim) not in found:
            options = config.matrix_options(method)
            asked = getattr(config.output, "output_dim", None)
            own = "--output-dim" if asked else feature_flag(config.model)
            flag = own if end == "output" else "--embed-size"
            with naming_flags(options, method, dim=flag, folds=FLAG):
                found[method, dim] = fold_vectors(
                    method,
                    corpus.statistics(),
                    dim,
                    config.model.matrix_seed,
                    options,
                    config.folds,
                    progress,
                    directory=cache_directory() / "matrices",
                )
        ends[end] = found[method, dim]
    return ends


def write_folds(run: RunDirectory, folds: Folds) -> None:
    """Keeps them until the run is done, so that it goes on with the same bits wherever it is resumed."""
    with writing(run.path):
        for end, vectors in _files(folds).items():
            vectors.save(run.folds[end])


def read_folds(run: RunDirectory) -> Folds:
    """What `write_folds` kept, compared with the hashes and the sizes in ``config.json``.

    Raises:
        InputError: a file is missing, damaged or another one.
    """
    values = run.read_config()
    config, size = TrainConfig.from_json(values), values["corpus"]["vocabulary_size"]
    hashes: Mapping[str, str] = values.get("folds", {})
    none = values.get("folds") == {}  # nobody asked for them, and the text was too short
    shapes = {end: (config.folds + 1, size, dim) for end, (_, dim) in config.cross_fitted().items()}
    if hashes.keys() != shapes.keys() and not none:
        found, expected = [", ".join(sorted(each)) or "none" for each in (hashes, shapes)]
        raise InputError(run.config, "the folds are not those of its flags", found=found, expected=expected)
    read: dict[str, FoldVectors] = {}
    for end, path in run.folds.items():
        if end in hashes and hashes[end] not in read:
            vectors = FoldVectors.load(path)
            what = "not the vectors of this run"
            if vectors.sha256 != hashes[end]:
                raise InputError(path, what, found=vectors.sha256, expected=hashes[end])
            if vectors.rows.shape != shapes[end]:
                raise InputError(path, what, found=list(vectors.rows.shape), expected=list(shapes[end]))
            read[hashes[end]] = vectors
    return {end: read[sha256] for end, sha256 in hashes.items()}


def remove_folds(run: RunDirectory) -> None:
    """Makes room once the run is done: what scores it reads the vectors of the whole text."""
    for path in run.folds.values():
        path.unlink(missing_ok=True)


def _files(folds: Folds) -> Folds:
    """Without the input's where the output's are the same."""
    same = folds.get("output") is folds.get("input")
    return {end: vectors for end, vectors in folds.items() if not (same and end == "input")}
