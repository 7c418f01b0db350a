"""Skip-gram vectors: every word, the same for the same seed, near where words share contexts."""

from __future__ import annotations

import dataclasses
import itertools
import logging

import numpy as np
import pytest

import embeddings
from embeddings import CorpusStatistics, InputError
from embeddings.methods import word2vec
from embeddings.methods.word2vec import Options, Sentences


def silent(*_: object) -> None:
    pass


def two_topics(lines: int = 300) -> CorpusStatistics:
    """Lines about words 1 to 8 in turn with lines about 9 to 16; one word has a space in it, 17 never occurs."""
    rng = np.random.default_rng(1)
    ids = np.concatenate([np.append(rng.integers(1, 9, 10) + 8 * (n % 2), 0) for n in range(lines)])
    words = ["<eos>", "new york", "\u2028", *(f"w{i}" for i in range(3, 18))]
    return CorpusStatistics(words, np.bincount(ids, minlength=18), ids, end_of_line=0)


@pytest.mark.parametrize("layer", ["input", "output"])
def test_words_of_one_topic_are_near(layer: str) -> None:
    vectors = embeddings.build("word2vec", two_topics(), 8, options=Options(epochs=20, vectors=layer)).vectors
    cosines = vectors @ vectors.T
    assert vectors.shape == (18, 8)
    assert cosines[1:9, 1:9].mean() > 0.4 + cosines[1:9, 9:17].mean()


def test_input_and_output_vectors_are_different_layers() -> None:
    built = [word2vec.build(two_topics(50), 8, 1, Options(epochs=1, vectors=v), silent) for v in ("input", "output")]
    assert not np.allclose(built[0], built[1], atol=1e-3)


def test_the_seed_decides() -> None:
    first, again, other = (
        embeddings.build("word2vec", two_topics(50), 8, seed, Options(epochs=2)) for seed in (1, 1, 2**40)
    )
    assert first.sha256 == again.sha256
    assert first.sha256 != other.sha256


def test_every_word_has_a_row_and_the_mean_is_taken_out() -> None:
    """A word that occurs once is trained; one that never does is missing, and does not count for the mean."""
    vectors = word2vec.build(two_topics(50), 8, 1, Options(epochs=1), silent)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[:17].mean(axis=0), 0, atol=1e-6)
    assert (np.linalg.norm(vectors, axis=1) > 0).all()
    assert np.linalg.norm(vectors[17]) < 0.1 * np.linalg.norm(vectors[:17], axis=1).mean()
    uncentred = word2vec.build(two_topics(50), 8, 1, Options(epochs=1, centre=False), silent)
    np.testing.assert_allclose(vectors[:17], uncentred[:17] - uncentred[:17].mean(axis=0), atol=1e-6)


def test_rows_are_in_order_of_ids_whatever_the_counts() -> None:
    """gensim orders by frequency: under other ids, the rarest first, the topics must be found again."""
    text = two_topics()
    rarest_first = np.argsort(np.argsort(text.counts, kind="stable"), kind="stable")
    renamed = CorpusStatistics(text.words, np.sort(text.counts), rarest_first[text.ids], int(rarest_first[0]))
    vectors = embeddings.build("word2vec", renamed, 8, options=Options(epochs=20)).vectors[rarest_first]
    cosines = vectors @ vectors.T
    assert cosines[1:9, 1:9].mean() > 0.4 + cosines[1:9, 9:17].mean()


def test_sentences_are_lines_cut_at_ten_thousand_tokens() -> None:
    ids = np.concatenate([[1, 2, 0], [0], np.full(25_000, 3), [0], [1]])
    sentences = list(Sentences(ids, end_of_line=0))
    assert [len(sentence) for sentence in sentences] == [3, 1, 10_000, 10_000, 5_001, 1]
    assert sentences[0] == ["1", "2", "0"]
    assert [int(word) for sentence in sentences for word in sentence] == ids.tolist()
    assert [len(sentence) for sentence in Sentences(ids, end_of_line=None)] == [10_000, 10_000, 5_006]


def test_progress_counts_epochs_and_gensim_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[tuple[str, float, float]] = []
    level = logging.getLogger("gensim").level
    word2vec.build(two_topics(5), 4, 1, Options(epochs=3), lambda *call: calls.append(call))
    assert calls == [("word2vec epochs", done, 3) for done in range(4)]
    assert not [record for record in caplog.records if record.name.startswith("gensim")]
    assert logging.getLogger("gensim").level == level


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, r"epochs: out of range \(found 0"),
        ({"negative": 0}, "negative: out of range"),
        ({"window": 10_000}, "window: longer than the corpus"),
        ({"learning_rate": float("nan")}, "learning_rate: out of range"),
        ({"subsample": 2.0}, "subsample: out of range"),
        ({"vectors": "hidden"}, "vectors: unknown choice 'hidden'"),
    ],
)
def test_unusable_options_are_errors(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        embeddings.build("word2vec", two_topics(5), 4, options=Options(**options))


def test_one_repeated_word_is_an_error() -> None:
    text = CorpusStatistics(["a"], np.array([50]), np.zeros(50, dtype=int))
    with pytest.raises(InputError, match="fewer than two different words"):
        embeddings.build("word2vec", text, 4)


# --- without a fold of the text ---------------------------------------------------------------------------


def test_a_fold_has_the_model_of_the_other_lines_turned_to_the_axes_of_the_whole() -> None:
    text, options = two_topics(120), Options(epochs=4)
    bounds = np.array([0, 40, 80, 120]) * 11  # a line is ten words and its end
    whole, folds = word2vec.build_with_folds(text, 8, 1, options, bounds, silent)
    np.testing.assert_array_equal(whole, word2vec.build(text, 8, 1, options, silent))
    for found, (start, end) in zip(folds, itertools.pairwise(bounds), strict=True):
        rest = np.delete(text.ids, np.arange(start, end))
        plain = word2vec.build(dataclasses.replace(text, ids=rest), 8, 1, options, silent)
        np.testing.assert_allclose(found[:17] @ found[:17].T, plain[:17] @ plain[:17].T, atol=1e-5)  # turned only
        weights = np.sqrt(np.bincount(rest, minlength=18))[:17, None]

        def distance(vectors: np.ndarray, weights: np.ndarray = weights) -> float:
            return float((weights * (vectors[:17] - whole[:17]) ** 2).sum())

        draw = np.random.default_rng(1)
        others = [np.linalg.qr(np.eye(8) + 0.1 * draw.standard_normal((8, 8)))[0] for _ in range(20)]
        assert distance(found) < min(distance(plain), *(distance(found @ turn) for turn in others))


def test_a_word_that_only_one_fold_has_is_zero_there_and_no_sentence_goes_over_the_cut() -> None:
    text = two_topics(60)
    ids = text.ids.copy()
    ids[5] = 17
    _, folds = word2vec.build_with_folds(
        dataclasses.replace(text, ids=ids), 8, 1, Options(epochs=1), np.array([0, 220, 660]), silent
    )
    without_first, without_second = folds
    assert not without_first[17].any()
    assert without_second[17].any()
    sentences = Sentences(np.array([1, 2, 3, 4, 0]), end_of_line=0, cuts=[2])
    assert [*sentences] == [["1", "2"], ["3", "4", "0"]]


def test_folds_that_leave_no_text_are_an_error() -> None:
    text = CorpusStatistics(["a", "b"], np.array([6, 6]), np.repeat([0, 1], 6))
    with pytest.raises(
        InputError, match=r"folds: the text without one of the folds has fewer than two different words"
    ):
        word2vec.build_with_folds(text, 2, 1, Options(window=2), np.array([0, 6, 12]), silent)
