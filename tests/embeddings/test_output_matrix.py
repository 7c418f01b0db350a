"""An output matrix on disk and in gensim."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors
from safetensors import SafetensorError, safe_open

import embeddings
from embeddings import CorpusStatistics, InputError, OutputMatrix
from embeddings.output_matrix import save_word2vec

WORDS = ["<eos>", "the", "cat", "naïve", "dog"]
STATISTICS = CorpusStatistics(WORDS, np.array([9, 7, 3, 2, 1]))


def matrix() -> OutputMatrix:
    return embeddings.build("random-orthogonal", STATISTICS, 3, seed=7)


def test_what_is_saved_is_one_tensor_and_one_recipe_without_paths_or_times(tmp_path: Path) -> None:
    built = matrix()
    built.save(tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", framework="numpy") as file:
        assert list(file.keys()) == ["vectors"]
        assert list(file.metadata()) == ["recipe"]
        recipe = file.metadata()["recipe"]
    assert recipe == json.dumps(json.loads(recipe), sort_keys=True, ensure_ascii=False)
    assert {"method", "options", "dim", "seed", "vocabulary_sha256", "sha256"} <= set(json.loads(recipe))
    loaded = OutputMatrix.load(tmp_path / "a.safetensors")
    assert loaded.recipe == built.recipe
    np.testing.assert_array_equal(loaded.vectors, built.vectors)


def test_the_files_mode_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        matrix().save(tmp_path / "a.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o640


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        matrix().save(tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_full_disk_is_an_error_of_the_system_as_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(OSError, match="No space left on device"):
        matrix().save(tmp_path / "a")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("binary", [False, True])
def test_gensim_reads_the_word2vec_formats(binary: bool, tmp_path: Path) -> None:
    built = matrix()
    save_word2vec(tmp_path / "vectors", WORDS, built.vectors, binary=binary)
    keyed = KeyedVectors.load_word2vec_format(tmp_path / "vectors", binary=binary)
    assert keyed.index_to_key == WORDS
    np.testing.assert_array_equal(keyed.vectors, built.vectors)


def test_to_gensim_and_back() -> None:
    built = matrix()
    keyed = built.to_keyed_vectors(WORDS)
    np.testing.assert_array_equal(keyed["cat"], built.vectors[2])
    back = embeddings.from_keyed_vectors(keyed, STATISTICS)
    np.testing.assert_allclose(back.vectors, built.vectors, rtol=1e-6)


def test_vectors_from_gensim_are_aligned_by_word_and_missing_ones_filled() -> None:
    keyed = KeyedVectors(2)
    keyed.add_vectors(["dog", "other", "the"], np.array([[0.0, 2.0], [1.0, 1.0], [3.0, 0.0]], dtype=np.float32))
    first, again = (embeddings.from_keyed_vectors(keyed, STATISTICS, seed=1) for _ in range(2))
    np.testing.assert_allclose(first.vectors[[4, 1]], [[0, 1], [1, 0]])
    np.testing.assert_allclose(np.linalg.norm(first.vectors, axis=1), 1, rtol=1e-6)
    assert len(np.unique(first.vectors, axis=0)) == len(WORDS)
    assert first.sha256 == again.sha256
    keyed.add_vectors(["cat"], np.zeros((1, 2), dtype=np.float32))  # as a word without a vector
    np.testing.assert_array_equal(embeddings.from_keyed_vectors(keyed, STATISTICS, seed=1).vectors, first.vectors)
    with pytest.raises(InputError, match="no word in common with the vocabulary"):
        embeddings.from_keyed_vectors(keyed, CorpusStatistics(["a", "b"], np.ones(2)))


def test_paths_may_be_text(tmp_path: Path) -> None:
    matrix = embeddings.build_cached("hadamard", STATISTICS, 8, directory=str(tmp_path / "cache"))
    matrix.export(str(tmp_path / "a.txt"), WORDS)
    assert (tmp_path / "a.txt").read_text().startswith(f"{len(WORDS)} 8\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        (b"", "not an output matrix"),
        (b"\x00" * 64, "not an output matrix"),
        (b"not safetensors at all", "not an output matrix"),
    ],
)
def test_other_files_are_refused(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        OutputMatrix.load(path)
