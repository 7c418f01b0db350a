"""The method ``pretrained``: alignment by word, what the log says, and the rule for missing words."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np
import pytest

import embeddings
from embeddings import CorpusStatistics, InputError
from embeddings.methods import pretrained
from embeddings.methods.pretrained import Options
from embeddings.output_matrix import unit_rows

WORDS = ["<eos>", "the", "of", "The", "Autism", "Alabama"]
COUNTS = np.array([10, 50, 20, 10, 6, 4])


@pytest.fixture
def statistics() -> CorpusStatistics:
    return CorpusStatistics(WORDS, COUNTS)


def save(path: Path, rows: dict[str, list[float]]) -> Path:
    dim = len(next(iter(rows.values())))
    lines = [f"{len(rows)} {dim}"] + [" ".join([word, *map(str, row)]) for word, row in rows.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def build(statistics: CorpusStatistics, path: Path, dim: int | None = None, **options: object) -> np.ndarray:
    return embeddings.build(
        "pretrained", statistics, dim, seed=1, options=Options(str(path), **options)  # type: ignore[arg-type]
    ).vectors  # fmt: skip


def error(statistics: CorpusStatistics, path: Path, dim: int | None = None, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        build(statistics, path, dim, **options)
    return str(caught.value).replace(f"{path.parent}/", "")


FULL = {word: list(row) for word, row in zip(WORDS, np.random.default_rng(0).normal(size=(6, 3)), strict=True)}


def test_rows_are_aligned_by_word(statistics: CorpusStatistics, tmp_path: Path) -> None:
    path = save(tmp_path / "v.txt", dict(reversed(FULL.items())) | {"another": [1, 2, 3]})
    expected = unit_rows(np.array(list(FULL.values()), dtype=np.float32))
    np.testing.assert_array_equal(build(statistics, path), expected)
    np.testing.assert_array_equal(build(statistics, path, dim=3), expected)


def test_a_dimension_other_than_asked_for(statistics: CorpusStatistics, tmp_path: Path) -> None:
    expected = "v.txt: vectors of another dimension than asked for (found 3, expected 4). Fix: set `dim` to 3"
    assert error(statistics, save(tmp_path / "v.txt", FULL), dim=4) == expected


def test_the_share_found_is_logged(
    statistics: CorpusStatistics, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = {word: FULL[word] for word in ["the", "of", "The", "Autism"]}
    path = save(tmp_path / "v.txt", rows)
    with caplog.at_level(logging.INFO, "embeddings"):
        build(statistics, path)
    expected = f"{path}: vectors for 4 of 6 words: 66.7 % of the types, 86.0 % of the running tokens."
    assert caplog.messages == [expected]


def test_less_than_half_is_a_warning(
    statistics: CorpusStatistics, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = save(tmp_path / "v.txt", {"of": [1.0, 0.0], "Alabama": [0.0, 1.0]})
    build(statistics, path)
    assert caplog.messages == [
        f"{path}: less than half of the vocabulary has a vector (33.3 %); "
        "missing are 'the', '<eos>', 'The', 'Autism' …; "
        "each missing word gets the mean of the vectors found plus a small seeded noise."
    ]


def test_missing_words_lie_near_the_mean_and_differ(statistics: CorpusStatistics, tmp_path: Path) -> None:
    rows = {word: [10 + value for value in FULL[word]] for word in WORDS[:4]}
    path = save(tmp_path / "v.txt", rows)
    vectors = build(statistics, path)
    mean = np.mean(list(rows.values()), axis=0)
    assert (vectors[4:] @ (mean / np.linalg.norm(mean)) > 0.999).all()
    assert (vectors[4] != vectors[5]).any()
    np.testing.assert_array_equal(build(statistics, path), vectors)
    other = embeddings.build("pretrained", statistics, None, seed=2, options=Options(str(path))).vectors
    np.testing.assert_array_equal(other[:4], vectors[:4])
    assert (other[4:] != vectors[4:]).any()


def test_no_word_in_common(statistics: CorpusStatistics, tmp_path: Path) -> None:
    expected = (
        "v.txt: no word in common with the vocabulary (found words such as 'das', 'und', "
        "expected words such as '<eos>', 'the', 'of', 'The', 'Autism'). "
        "Fix: take vectors of the same language and tokenisation, or try `lowercase_fallback`"
    )
    path = save(tmp_path / "v.txt", {"das": [1, 2], "und": [3, 4]})
    assert error(statistics, path) == expected
    assert "fallback" not in error(statistics, path, lowercase_fallback=True)


def test_lowercase_fallback(statistics: CorpusStatistics, tmp_path: Path) -> None:
    path = save(tmp_path / "v.txt", {"the": [1, 0], "of": [0, 1], "autism": [3, 4], "<eos>": [1, 1]})
    vectors = build(statistics, path, lowercase_fallback=True)
    np.testing.assert_allclose(vectors[[3, 4]], [[1, 0], [0.6, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(vectors[1], [1, 0])
    assert not np.allclose(build(statistics, path)[4], [0.6, 0.8], atol=1e-3)


def test_the_fallback_reads_a_file_of_upper_case_words(statistics: CorpusStatistics, tmp_path: Path) -> None:
    path = save(tmp_path / "v.txt", {word.upper(): row for word, row in FULL.items() if word != "The"})
    expected = unit_rows(np.array([FULL[word] for word in [*WORDS[:3], "the", *WORDS[4:]]], dtype=np.float32))
    np.testing.assert_array_equal(build(statistics, path, lowercase_fallback=True), expected)


def test_zero_rows_count_as_missing(
    statistics: CorpusStatistics, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = save(tmp_path / "v.txt", FULL | {"Alabama": [0, 0, 0]})
    vectors = build(statistics, path)
    assert caplog.messages == [f"{path}: 1 rows of zeros; their words count as missing."]
    assert vectors[5].any()
    expected = "v.txt: every row of the vocabulary's words is zero (found 6 rows of zeros)."
    assert error(statistics, save(path, {word: [0, 0, 0] for word in WORDS})) == expected


def test_a_rank_below_the_dimension_is_a_warning(
    statistics: CorpusStatistics, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = save(tmp_path / "v.txt", {word: [*row[:2], row[0] - row[1]] for word, row in FULL.items()})
    build(statistics, path)
    assert caplog.messages == [f"{path}: the 6 vectors found have rank 2, below their dimension 3."]


def test_the_recipe_names_contents_and_no_paths(statistics: CorpusStatistics, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.array(list(FULL.values())))
    words = tmp_path / "vocabulary.txt"
    words.write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    recipe = embeddings.build("pretrained", statistics, None, options=Options(str(tmp_path / "v.npy"))).recipe
    assert recipe["options"] == {
        "file_sha256": hashlib.sha256((tmp_path / "v.npy").read_bytes()).hexdigest(),
        "vocabulary_file_sha256": hashlib.sha256(words.read_bytes()).hexdigest(),
        "format": "auto",
        "lowercase_fallback": False,
    }
    assert recipe["dim"] == 3
    assert str(tmp_path) not in str(recipe)
    assert pretrained.recipe(Options(str(tmp_path / "v.npy"), str(words))) == recipe["options"]


def test_a_file_that_changed_has_another_recipe(tmp_path: Path) -> None:
    path = save(tmp_path / "v.txt", FULL)
    before = pretrained.recipe(Options(str(path)))
    assert before["vocabulary_file_sha256"] is None
    save(path, FULL | {"another": [1, 2, 3]})
    assert pretrained.recipe(Options(str(path))) != before


def test_our_own_matrix_comes_back_as_it_was(statistics: CorpusStatistics, tmp_path: Path) -> None:
    matrix = embeddings.build("pretrained", statistics, 3, options=Options(str(save(tmp_path / "v", FULL))))
    matrix.save(tmp_path / "m.safetensors")
    again = build(statistics, tmp_path / "m.safetensors")
    np.testing.assert_allclose(again, matrix.vectors, atol=1e-7)
    other = CorpusStatistics(WORDS[::-1], COUNTS)
    assert "a matrix built for another vocabulary is refused" in error(other, tmp_path / "m.safetensors")


def test_files_that_are_not_there(statistics: CorpusStatistics, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        embeddings.build("pretrained", statistics, None)
    assert str(caught.value) == "file: no file of vectors is named. Fix: name one by `file` FILE"
    expected = "no.txt: cannot be read (found No such file or directory, expected a file)."
    assert error(statistics, tmp_path / "no.txt") == expected


def test_progress_is_shown(tmp_path: Path) -> None:
    words = [f"w{number}" for number in range(5000)]
    path = save(tmp_path / "v.txt", {word: [number, 1] for number, word in enumerate(words)})
    seen: list[str] = []
    embeddings.build(
        "pretrained", CorpusStatistics(words, np.ones(5000, int)), None, options=Options(str(path)),
        progress=lambda what, done, total: seen.append(what),
    )  # fmt: skip
    assert seen == ["reading v.txt"]


@pytest.mark.parametrize("name", ["v.npy", "v.array"])
def test_the_words_beside_an_array_count_whatever_its_name(
    name: str, statistics: CorpusStatistics, tmp_path: Path
) -> None:
    with open(tmp_path / name, "wb") as file:
        np.save(file, np.eye(len(statistics), dtype=np.float32))
    words = tmp_path / "vocabulary.txt"
    words.write_text("\n".join(statistics.words))
    options = Options(file=str(tmp_path / name))
    before = pretrained.recipe(options)
    assert before["vocabulary_file_sha256"]
    words.write_text("\n".join(reversed(statistics.words)))
    assert pretrained.recipe(options) != before


def test_a_mark_before_the_first_word_of_a_list_is_no_part_of_it(statistics: CorpusStatistics, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.eye(len(statistics), dtype=np.float32))
    words = tmp_path / "words.txt"
    words.write_text("\ufeff" + "\n".join(statistics.words), encoding="utf-8")
    options = Options(file=str(tmp_path / "v.npy"), vocabulary=str(words))
    found = embeddings.build("pretrained", statistics, None, options=options).vectors
    np.testing.assert_array_equal(found, np.eye(len(statistics)))
