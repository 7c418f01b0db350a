"""Skip-gram with negative sampling (Mikolov et al. 2013), trained by gensim on the train split."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le

from embeddings.errors import InputError
from embeddings.methods.missing_words import fill_missing
from embeddings.options import Checked, Count, Positive, option
from embeddings.registry import Progress, silent
from embeddings.statistics import CorpusStatistics

SUMMARY = "skip-gram with negative sampling, trained by gensim"
NEEDS_CORPUS = True
logger = logging.getLogger(__name__)

LONGEST_SENTENCE = 10_000
"""gensim drops what a sentence has beyond this, without a word."""


@dataclass(frozen=True)
class Options(Checked):
    """gensim's settings, with its defaults except for the epochs: a corpus of 2 M words needs more than 5."""

    epochs: Count = option(10, "number of passes over the text")
    window: Count = option(5, "largest distance between a word and its context")
    negative: Count = option(5, "number of negative samples for each pair")
    subsample: Annotated[float, Ge(0), Le(1)] = option(
        1e-3, "words above this frequency are skipped at random (0: none is skipped)"
    )
    learning_rate: Positive = option(0.025, "initial learning rate. It falls linearly to 0.0001")
    vectors: Literal["input", "output"] = option(
        "input", "which vectors of the model: those of words, or those of contexts"
    )
    centre: bool = option(True, "subtract the mean vector")


def build(statistics: CorpusStatistics, dim: int, seed: int, options: Options, progress: Progress) -> np.ndarray:
    """Trains skip-gram vectors on the lines of the train split, on one thread: a seed gives the same bytes.

    Words that never occur get the rule of `embeddings.methods.missing_words`.

    Returns:
        (V, N) float32, rows in order of ids.

    Raises:
        InputError: an option is out of range, or the text is too small for any pair.
    """
    sentences = Sentences(_checked(statistics, options), statistics.end_of_line)
    vectors, known = _train(sentences, len(statistics), dim, seed, options, progress)
    fill_missing(vectors, ~known, np.random.default_rng(seed))
    return vectors


def build_with_folds(
    statistics: CorpusStatistics, dim: int, seed: int, options: Options, bounds: np.ndarray, progress: Progress
) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    """The vectors of `build`, and for each fold of the text the vectors of a model that is trained without it.

    Two trainings end in different axes. The vectors X' without a fold are therefore turned to those of the whole, X:
    to X'·R with the orthogonal R that makes Σ √n_w ‖x'_w·R − x_w‖² least, n_w the count of word w outside the fold
    (Schönemann 1966, "A generalized solution of the orthogonal Procrustes problem"). A word that does not occur outside
    a fold has a row of zeros there.

    This takes as long as K + 1 matrices.

    Args:
        bounds: (K + 1,) where the folds begin and end.

    Returns:
        (V, N) float32, and K arrays of the same shape, one after the other.

    Raises:
        InputError: as `build`, or the text without a fold is too small.
    """
    ids, end_of_line = _checked(statistics, options), statistics.end_of_line
    folds, size = len(bounds) - 1, len(statistics)
    parts = [(ids[:start], ids[end:]) for start, end in itertools.pairwise(bounds)]
    if min(len(np.unique(np.concatenate(part))) for part in parts) < 2:
        what = "the text without one of the folds has fewer than two different words"
        raise InputError("folds", what, found=folds, fix="fewer folds, or a longer text")
    logger.info(f"word2vec: {folds + 1} models are trained, one on all of the text and one without each fold")
    whole, known = _train(Sentences(ids, end_of_line), size, dim, seed, options, progress)

    def each() -> Iterator[np.ndarray]:
        for fold, part in enumerate(parts):
            progress("training without a fold", fold, folds)
            sentences = Sentences(np.concatenate(part), end_of_line, cuts=[len(part[0])])
            vectors, _ = _train(sentences, size, dim, seed, options, silent)  # unknown words are 0
            counts = np.bincount(sentences.ids, minlength=size)
            yield vectors @ _turn(vectors, whole, np.sqrt(counts))
        progress("training without a fold", folds, folds)

    filled = whole.copy()
    fill_missing(filled, ~known, np.random.default_rng(seed))
    return filled, each()


def _turn(vectors: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The orthogonal matrix (N, N) that turns vectors (V, N) nearest to the target (V, N), rows weighted by (V,)."""
    from scipy.linalg import svd

    left, _, right = svd((vectors.astype(np.float64) * weights[:, None]).T @ target)
    turn: np.ndarray = (left @ right).astype(np.float32)
    return turn


def _train(
    sentences: Sentences, size: int, dim: int, seed: int, options: Options, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (V, N) float32, those of words that do not occur 0, and (V,) which words occur."""
    from gensim.models import Word2Vec

    with _silent_gensim():
        model = Word2Vec(
            vector_size=dim,
            alpha=options.learning_rate,
            window=options.window,
            min_count=1,
            sample=options.subsample,
            seed=seed % 2**32,  # what its generator takes
            workers=1,
            sg=1,
            hs=0,
            negative=options.negative,
        )
        progress("word2vec epochs", 0, options.epochs)
        model.build_vocab(sentences)
        model.train(
            sentences,
            total_examples=model.corpus_count,
            epochs=options.epochs,
            callbacks=[_progress_callback(progress, options.epochs)],
        )
    trained = model.wv.vectors if options.vectors == "input" else model.syn1neg
    vectors = np.zeros((size, dim), dtype=np.float32)
    known = np.zeros(size, dtype=bool)
    order = [int(key) for key in model.wv.index_to_key]
    vectors[order], known[order] = trained, True
    if options.centre:
        vectors[known] -= vectors[known].mean(axis=0)
    return vectors, known


class Sentences:
    """The lines of a stream as gensim wants them: lists of strings, as often as asked.

    A word is given as the digits of its id, so that no character of it can matter. A line keeps its
    end-of-line token, and is cut into pieces of at most 10,000 tokens.

    Args:
        ids: (tokens,).
        end_of_line: the last id of each line.
        cuts: places where the text was put together, over which no sentence goes.
    """

    def __init__(self, ids: np.ndarray, end_of_line: int | None, cuts: Sequence[int] = ()) -> None:
        self.ids = np.asarray(ids)
        last = [] if end_of_line is None else [end_of_line]
        ends = np.flatnonzero(np.isin(self.ids, last)) + 1
        self.bounds = np.unique(np.concatenate([[0], ends, cuts, [len(self.ids)]]).astype(np.int64))
        self.keys = [str(word) for word in range(int(self.ids.max(initial=0)) + 1)]

    def __iter__(self) -> Iterator[list[str]]:
        for start, end in zip(self.bounds[:-1], self.bounds[1:], strict=True):
            for piece in range(start, end, LONGEST_SENTENCE):
                yield [self.keys[word] for word in self.ids[piece : min(piece + LONGEST_SENTENCE, end)]]


def _checked(statistics: CorpusStatistics, options: Options) -> np.ndarray:
    """The ids (tokens,), if all of the input can be used; `InputError` if not."""
    ids = statistics.text("word2vec")
    if len(np.unique(ids)) < 2:
        raise InputError("word2vec", "the text has fewer than two different words", fix="take a longer text")
    most = len(ids) - 1
    if options.window > most:
        raise InputError("window", "longer than the corpus", found=options.window, expected=f"at most {most}")
    return ids


def _progress_callback(progress: Progress, epochs: int) -> Any:
    """A gensim callback that reports each epoch."""
    from gensim.models.callbacks import CallbackAny2Vec

    class Report(CallbackAny2Vec):
        done = 0

        def on_epoch_end(self, model: Any) -> None:
            self.done += 1
            progress("word2vec epochs", self.done, epochs)

    return Report()


@contextmanager
def _silent_gensim() -> Iterator[None]:
    """Keeps gensim's log (its remarks on small corpora too) off the user's terminal."""
    logger = logging.getLogger("gensim")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
