"""Vectors of strangers: what is read, and what each kind of damage says."""

from __future__ import annotations

import gzip
import io
import json
import logging
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from embeddings.errors import InputError
from embeddings.output_matrix import OutputMatrix, hash_vectors, unit_rows
from embeddings.readers.read_vectors import read_vectors
from embeddings.statistics import hash_words

WORDS = ["the", "Königin", "of", "naïve", "</s>", "10,000"]
WANTED = {word: number for number, word in enumerate(WORDS)}


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(3).standard_normal((len(WORDS), 7)).astype(np.float32)


def text(vectors: np.ndarray, words: list[str] = WORDS, *, header: bool = True) -> bytes:
    lines = [f"{len(words)} {vectors.shape[1]}"] if header else []
    lines += [" ".join([word, *map(str, row.tolist())]) for word, row in zip(words, vectors, strict=True)]
    return ("\n".join(lines) + "\n").encode()


def binary(vectors: np.ndarray, words: list[str] = WORDS, *, end: bytes = b"\n") -> bytes:
    rows = [word.encode() + b" " + row.tobytes() + end for word, row in zip(words, vectors, strict=True)]
    return f"{len(words)} {vectors.shape[1]}\n".encode() + b"".join(rows)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def error(path: Path, wanted: dict[str, int] = WANTED, **keywords: object) -> str:
    """The line that reading the file ends with, without the file's folder."""
    with pytest.raises(InputError) as caught:
        read_vectors(path, wanted, **keywords)  # type: ignore[arg-type]
    return str(caught.value).replace(f"{path.parent}/", "")


# --- well-formed files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\n", b""], ids=["newline", "no-newline"])
def test_binary_reads_as_gensim_does(tmp_path: Path, vectors: np.ndarray, end: bytes) -> None:
    from gensim.models import KeyedVectors

    path = write(tmp_path / "vectors.bin", binary(vectors, end=end))
    keyed = KeyedVectors.load_word2vec_format(str(path), binary=True)
    found = read_vectors(path, WANTED)
    assert [WORDS[i] for i in found.ids] == keyed.index_to_key
    np.testing.assert_array_equal(found.vectors, keyed.vectors)


def test_text_reads_as_gensim_does(tmp_path: Path, vectors: np.ndarray) -> None:
    from gensim.models import KeyedVectors

    path = write(tmp_path / "vectors.txt", text(vectors))
    keyed = KeyedVectors.load_word2vec_format(str(path), binary=False)
    found = read_vectors(path, WANTED)
    assert [WORDS[i] for i in found.ids] == keyed.index_to_key
    np.testing.assert_array_equal(found.vectors, keyed.vectors)


@pytest.mark.parametrize("is_binary", [False, True])
def test_what_gensim_writes(tmp_path: Path, vectors: np.ndarray, is_binary: bool) -> None:
    from gensim.models import KeyedVectors

    keyed = KeyedVectors(7)
    keyed.add_vectors(WORDS, vectors)
    path = tmp_path / "from_gensim"
    keyed.save_word2vec_format(str(path), binary=is_binary)
    np.testing.assert_array_equal(read_vectors(path, WANTED).vectors, vectors)


@pytest.mark.parametrize("form", ["text", "glove", "binary"])
@pytest.mark.parametrize("packed", [False, True])
def test_formats_are_recognised_whatever_the_name(tmp_path: Path, vectors: np.ndarray, form: str, packed: bool) -> None:
    content = {"text": text(vectors), "glove": text(vectors, header=False), "binary": binary(vectors)}[form]
    path = write(tmp_path / "vectors", gzip.compress(content) if packed else content)
    found = read_vectors(path, WANTED)
    np.testing.assert_array_equal(found.vectors, vectors)
    assert (found.dim, found.row_count, found.ids) == (7, len(WORDS), list(range(len(WORDS))))


def test_a_text_file_named_bin_is_read_as_text(tmp_path: Path, vectors: np.ndarray) -> None:
    path = write(tmp_path / "vectors.bin", text(vectors))
    np.testing.assert_array_equal(read_vectors(path, WANTED).vectors, vectors)


def test_glove_is_read_and_said_in_the_log(
    tmp_path: Path, vectors: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "glove.txt", text(vectors, header=False))
    with caplog.at_level(logging.INFO, "embeddings"):
        read_vectors(path, WANTED)
    assert caplog.messages == [f"{path}: no header; read as GloVe text."]


def test_bom_crlf_trailing_spaces_and_blank_end(tmp_path: Path) -> None:
    path = write(tmp_path / "v.txt", b"\xef\xbb\xbf2 2\r\nthe 1 2 \r\nof 3 4\r\n\r\n")
    assert read_vectors(path, WANTED).vectors.tolist() == [[1, 2], [3, 4]]


def test_only_newline_and_space_separate(tmp_path: Path) -> None:
    words = ["a\u2028b", "c\u00a0d", "e\x85f"]
    path = write(tmp_path / "v.txt", text(np.ones((3, 2), np.float32), words))
    assert read_vectors(path, {word: i for i, word in enumerate(words)}).ids == [0, 1, 2]


def test_only_wanted_rows_are_kept(tmp_path: Path, vectors: np.ndarray) -> None:
    for content in (text(vectors), binary(vectors)):
        found = read_vectors(write(tmp_path / "v", content), {"of": 5, "nowhere": 6})
        assert found.ids == [5]
        np.testing.assert_array_equal(found.vectors, vectors[2:3])
        assert found.examples == WORDS[:5]


@pytest.mark.slow
def test_memory_follows_what_is_kept(tmp_path: Path) -> None:
    rows = np.ones((60_000, 50), dtype=np.float32)  # 12 MB
    path = write(tmp_path / "v.bin", binary(rows, [f"w{i}" for i in range(len(rows))]))
    del rows
    tracemalloc.start()
    try:
        read_vectors(path, {"w7": 0})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5 << 20


def test_progress_ends_within_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "v.txt", text(np.ones((9000, 2), np.float32), [f"w{i}" for i in range(9000)]))
    seen: list[tuple[float, float]] = []
    read_vectors(path, {}, progress=lambda done, total: seen.append((done, total)))
    assert len(seen) == 2
    assert all(0 < done <= total == path.stat().st_size for done, total in seen)


@pytest.mark.parametrize("header", [True, False])
def test_words_with_spaces_as_in_glove_840b(tmp_path: Path, header: bool) -> None:
    words = [". . .", "the", "at name@domain.com", "-", "of"]
    rows = np.arange(15, dtype=np.float32).reshape(5, 3)
    path = write(tmp_path / "v.txt", text(rows, words, header=header))
    found = read_vectors(path, {word: number for number, word in enumerate(words)})
    assert (found.dim, found.ids) == (3, [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(found.vectors, rows)
    assert read_vectors(path, WANTED).ids == [0, 2]


@pytest.mark.parametrize("form", ["text", "binary", "npy"])
def test_a_row_that_nobody_needs_may_be_not_finite(
    tmp_path: Path, vectors: np.ndarray, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    vectors[[1, 3], 2] = np.nan, np.inf
    save_words(tmp_path / "vocabulary.txt")
    path = tmp_path / f"v.{form}"
    if form == "npy":
        np.save(path, vectors)
    else:
        write(path, text(vectors) if form == "text" else binary(vectors))
    np.testing.assert_array_equal(read_vectors(path, {"of": 0, "the": 1}).vectors, vectors[[0, 2]])
    assert "value 3 of the word 'naïve' is not finite" in error(path, {"naïve": 0})
    if form != "npy":  # of an array, only the wanted rows are looked at
        what = "2 rows with NaN or infinity were passed over; no word of the vocabulary needs them."
        assert caplog.messages == [f"{path}: {what}"]


def test_the_fallback_takes_the_lower_case_form_or_else_the_first_of_any_case(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "v.txt", b"THE 1\nOf 2\nThe 3\nthe 4\nthe 5\nOF 6\nMIT nan\nmit 7\nNASA inf\n")

    def rows(*words: str, fallback: bool = True) -> dict[str, float]:
        wanted = {word: number for number, word in enumerate(words)}
        found = read_vectors(path, wanted, lowercase_fallback=fallback)
        return dict(zip((words[i] for i in found.ids), found.vectors[:, 0].tolist(), strict=True))

    assert rows("tHE", "The", "of", "oF", "Mit") == {"The": 3, "tHE": 4, "of": 2, "oF": 2, "Mit": 7}
    assert rows("tHE", "The", "of", fallback=False) == {"The": 3}
    assert not [message for message in caplog.messages if "duplicate" in message]
    with pytest.raises(InputError, match=r"v.txt:9: value 1 of the word 'NASA' is not finite"):
        rows("nasa")


# --- damage ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "v.txt: the file is empty (found 0 bytes, expected word vectors)."),
        (b" \n\n", "v.txt: the file is empty (found nothing but white space, expected word vectors)."),
        (b"0 5\n", "v.txt:1: an empty header (found 0 rows of 5 numbers, expected at least 1)."),
        (
            b"3 2\nthe 1 2\nof 3 4.000000\n",
            "v.txt:1: the header and the rows differ (found 2 rows, expected 3 by the header). "
            "Fix: the file is cut short or its header is wrong: fetch it again",
        ),
        (b"1 2\nthe 1 2\nof 3 4\n", "v.txt:3: the header and the rows differ (found a further row, expected 1 rows)."),
        (b"2 2\nthe 1 2\nof 3 4 5\n", "v.txt:3: a row of another width (found 3 numbers, expected 2)."),
        (b"the 1 2\nof 3\n", "v.txt:2: a row of another width (found 1 numbers, expected 2)."),
        (b"the\n", "v.txt:1: a row of another width (found 0 numbers, expected a word and its numbers)."),
        (
            b"2 2\nthe 1 2\nNew York 3 x\n",
            "v.txt:3: value 2 of the word 'New York' is no number (found 'x', expected a finite number).",
        ),
        (b"2 2\nthe 1 2\nof  3 4\n", "v.txt:3: a row of another width (found 3 numbers, expected 2)."),
        (b"1 2\n. 5 3 4\n", "v.txt:2: a row of another width (found 3 numbers, expected 2)."),
        (
            b"2 2\nthe 1 2\nof 3 x\n",
            "v.txt:3: value 2 of the word 'of' is no number (found 'x', expected a finite number).",
        ),
        (
            b"2 2\nthe nan 2\nof 3 1\n",
            "v.txt:2: value 1 of the word 'the' is not finite (found nan, expected a finite number).",
        ),
        (
            b"2 2\nthe 1 2\nof 3 -Infinity\n",
            "v.txt:3: value 2 of the word 'of' is not finite (found -inf, expected a finite number).",
        ),
        (
            b"2 2\nthe 1 2\nof 3 1e39\n",
            "v.txt:3: value 2 of the word 'of' is not finite (found inf, expected a finite number).",
        ),
        (
            b"2 2\nthe 1 2\nunwanted 3 x\n",
            "v.txt:3: value 2 of the word 'unwanted' is no number (found 'x', expected a finite number).",
        ),
        (
            b"2 2\nthe 1 2\nK\xf6nig 3 4\n",
            r"v.txt:3: a word that is not UTF-8 (found 'K\xf6nig', byte 2, expected UTF-8).",
        ),
        (
            b"2 2\nthe 1 2\n\nof 3 4\n",
            "v.txt:3: a blank line between rows (found nothing, expected a word and its numbers).",
        ),
        (
            b"2000000000 300\nthe 1 2\n",
            "v.txt:1: the header claims more than the file holds (found 2,000,000,000 rows of 300 numbers, "
            "expected at most 0 rows in 23 bytes). "
            "Fix: the file is cut short or its header is wrong: fetch it again",
        ),
        (
            b"1 2000000000\nthe 1 2\n",
            "v.txt:1: the header claims more than the file holds (found 1 rows of 2,000,000,000 numbers, "
            "expected at most 0 rows in 21 bytes). "
            "Fix: the file is cut short or its header is wrong: fetch it again",
        ),
        (
            b"2 2\nthe 1 2\0\nof 3 4\n",
            r"v.txt:2: value 2 of the word 'the' is no number (found '2\x00', expected a finite number).",
        ),
        (
            b"the 1 2\nof 3 \x07\n",
            r"v.txt:2: value 2 of the word 'of' is no number (found '\x07', expected a finite number).",
        ),
        (b"\x89PNG\r\n\x1a\n\0\0", r"v.txt:1: not text (found '\x89PNG\r', expected a word and its numbers)."),
    ],
)
def test_damaged_text(tmp_path: Path, content: bytes, line: str) -> None:
    assert error(write(tmp_path / "v.txt", content)) == line


def test_a_huge_claim_in_a_gzip(tmp_path: Path) -> None:
    path = write(tmp_path / "v.txt.gz", gzip.compress(b"2000000000 300\nthe 1 2\n"))
    assert "v.txt.gz:1: the header claims more than the file holds (found 2,000,000,000 rows" in error(path)


def test_a_line_without_an_end(tmp_path: Path) -> None:
    path = write(tmp_path / "v.txt", b"the 1 2\n" + b"1" * ((1 << 24) + 5))
    expected = "v.txt:2: a line too long for a row of numbers (found more than 16,777,216 bytes)."
    assert error(path) == expected


def test_a_duplicate_word_keeps_its_first_row(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "v.txt", b"4 1\nthe 1\nof 2\nthe 3\nthe 4\n")
    found = read_vectors(path, WANTED)
    assert (found.ids, found.vectors.tolist(), found.duplicates) == ([0, 2], [[1], [2]], 2)
    assert caplog.messages == [
        f"{path}:4: duplicate word 'the'; the first row of a word is kept.",
        f"{path}: 2 rows of words that had one already were passed over.",
    ]


def test_formats_mistaken_for_each_other(tmp_path: Path, vectors: np.ndarray) -> None:
    path = write(tmp_path / "v", binary(vectors))
    expected = "v:2: a binary file read as text (found bytes, expected digits). Fix: set `format` to binary"
    assert error(path, format="text") == expected
    write(path, text(vectors))
    expected = "v:2: a text file read as binary (found digits, expected bytes). Fix: set `format` to text"
    assert error(path, format="binary") == expected
    write(path, text(vectors, header=False))
    assert error(path, format="binary").startswith("v:1: no word2vec header (found 'the ")
    expected = "format: unknown format of vectors (found bin, expected auto | text | binary)."
    assert error(path, format="bin") == expected


def test_truncated_binary(tmp_path: Path, vectors: np.ndarray) -> None:
    words = ["w" * 30 + str(i) for i in range(6)]
    whole = binary(vectors, words)
    expected = (
        "v.bin: row 6: the file is truncated (found its end after 5 whole rows, "
        "expected 6 rows by the header). "
        "Fix: the file is cut short or its header is wrong: fetch it again"
    )
    assert error(write(tmp_path / "v.bin", whole[:-10])) == expected
    assert "v.bin:1: the header claims more than the file holds" in error(write(tmp_path / "v.bin", whole[:90]))


@pytest.mark.parametrize("kept", [0.5, 0.9, 0.99])
def test_every_cut_of_a_gzip_is_found(tmp_path: Path, vectors: np.ndarray, kept: float) -> None:
    packed = gzip.compress(text(vectors))
    line = error(write(tmp_path / "v.txt.gz", packed[: int(kept * len(packed))]))
    assert line.startswith("v.txt.gz: the gzip file is truncated or damaged (found ")
    assert line.endswith("Fix: fetch it again")


def test_a_changed_byte_in_a_gzip(tmp_path: Path, vectors: np.ndarray) -> None:
    packed = bytearray(gzip.compress(text(vectors)))
    packed[-6] ^= 1  # in the checksum
    assert "the gzip file is truncated or damaged" in error(write(tmp_path / "v.txt.gz", bytes(packed)))


def test_damaged_binary_rows(tmp_path: Path, vectors: np.ndarray) -> None:
    broken = vectors.copy()
    broken[3, 2] = np.nan
    expected = "v.bin: row 4: value 3 of the word 'naïve' is not finite (found nan, expected a finite number)."
    assert error(write(tmp_path / "v.bin", binary(broken))) == expected
    wrong = binary(vectors).replace("naïve".encode(), "naïve".encode("latin-1"))
    expected = r"v.bin: row 4: a word that is not UTF-8 (found 'na\xefve', byte 3, expected UTF-8)."
    assert error(write(tmp_path / "v.bin", wrong)) == expected
    expected = "v.bin:1: the header and the rows differ (found bytes after the last row, expected 6 rows)."
    assert error(write(tmp_path / "v.bin", binary(vectors) + b"one more")) == expected
    long = b"2 4\n" + b"a " + bytes(16) + b"w" * 5000
    expected = "v.bin: row 2: no end of the word (found 4096 bytes, expected a word and a space)."
    assert error(write(tmp_path / "v.bin", long)) == expected


def test_files_that_are_not_there(tmp_path: Path) -> None:
    expected = "v.txt: there is no such file (expected a file of word vectors)."
    assert error(tmp_path / "v.txt") == expected
    (tmp_path / "folder").mkdir()
    expected = "folder: cannot be read (found Is a directory, expected a file of word vectors)."
    assert error(tmp_path / "folder") == expected


def test_a_dimension_other_than_asked_for(tmp_path: Path, vectors: np.ndarray) -> None:
    expected = "v: vectors of another dimension than asked for (found 7, expected 8). Fix: set `dim` to 7"
    for content in (text(vectors), text(vectors, header=False), binary(vectors)):
        assert error(write(tmp_path / "v", content), dim=8) == expected


# --- pickles ---------------------------------------------------------------------------------------------


class Trap:
    """Unpickled, it would leave a trace."""

    def __reduce__(self) -> tuple:
        return (pytest.fail, ("a pickle was opened",))


EXPORT = "KeyedVectors.load(FILE).save_word2vec_format('vectors.txt')"


@pytest.mark.parametrize("suffix", ["kv", "pkl", "pickle", "pt", "pth", "model", "joblib", "kv.gz", "txt", "bin"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_no_pickle_is_opened(tmp_path: Path, suffix: str, protocol: int) -> None:
    content = pickle.dumps(Trap(), protocol=protocol)
    path = write(tmp_path / f"v.{suffix}", gzip.compress(content) if suffix.endswith("gz") else content)
    line = error(path)
    assert f"v.{suffix}: a pickle is refused, since it can run code when it is opened. Fix: " in line
    assert EXPORT in line


def test_pickles_inside_other_things(tmp_path: Path) -> None:
    path = write(tmp_path / "v.txt.gz", gzip.compress(pickle.dumps(Trap())))
    assert "a pickle is refused" in error(path)
    with zipfile.ZipFile(tmp_path / "v.txt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Trap()))
    assert "a pickle is refused" in error(tmp_path / "v.txt")
    np.save(tmp_path / "v.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    expected = (
        "v.npy: a pickle inside an npy file is refused, since it can run code when it is opened "
        "(found an array of objects, expected an array of floats)."
    )
    assert error(tmp_path / "v.npy") == expected


def test_archives_and_models_that_hold_no_rows(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "glove.zip", "w") as archive:
        archive.writestr("glove.txt", "the 1 2\n")
    expected = "glove.zip: a zip archive, not a file of vectors. Fix: unzip it and name the file inside"
    assert error(tmp_path / "glove.zip") == expected
    path = write(tmp_path / "cc.en.bin", b"\xba\x16\x4f\x2f" + bytes(100))
    expected = "cc.en.bin: a fastText model, not a file of vectors. Fix: name the .vec file that goes with it"
    assert error(path) == expected


# --- arrays ----------------------------------------------------------------------------------------------


def save_safetensors(path: Path, tensors: dict[str, np.ndarray], recipe: dict | None = None) -> Path:
    from safetensors.numpy import save_file

    save_file(tensors, path, metadata={"recipe": json.dumps(recipe)} if recipe else None)
    return path


def save_words(path: Path, words: list[str] = WORDS) -> Path:
    path.write_text("\n".join(words) + "\n", encoding="utf-8", newline="\n")
    return path


@pytest.mark.parametrize("name", ["vectors", "embedding.weight"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_safetensors(tmp_path: Path, vectors: np.ndarray, name: str, dtype: type) -> None:
    words = save_words(tmp_path / "words")
    path = save_safetensors(tmp_path / "v.safetensors", {name: vectors.astype(dtype), "bias": np.ones(3)})
    found = read_vectors(path, {"of": 1, "the": 0}, vocabulary=words)
    assert found.ids == [0, 1]
    np.testing.assert_array_equal(found.vectors, vectors[[0, 2]].astype(dtype).astype(np.float32))


def test_bfloat16_in_safetensors(tmp_path: Path, vectors: np.ndarray) -> None:
    import torch
    from safetensors.torch import save_file

    save_words(tmp_path / "vocabulary.txt")
    tensors = {"a": torch.ones(5), "vectors": torch.from_numpy(vectors).bfloat16(), "z": torch.ones(3).half()}
    save_file(tensors, tmp_path / "v.safetensors")
    found = read_vectors(tmp_path / "v.safetensors", {"of": 1, "the": 0})
    np.testing.assert_array_equal(found.vectors, tensors["vectors"].float().numpy()[[0, 2]])


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_with_the_vocabulary_beside_it(tmp_path: Path, vectors: np.ndarray, order: str) -> None:
    save_words(tmp_path / "vocabulary.txt")
    np.save(tmp_path / "v.npy", np.array(vectors, order=order))  # type: ignore[call-overload]
    found = read_vectors(tmp_path / "v.npy", {"of": 1, "10,000": 0})
    assert found.ids == [1, 0]
    np.testing.assert_array_equal(found.vectors, vectors[[2, 5]])


def test_arrays_need_words(tmp_path: Path, vectors: np.ndarray) -> None:
    fix = "Fix: give the words of its rows, one a line, by `vocabulary` FILE or as vocabulary.txt beside it"
    np.save(tmp_path / "v.npy", vectors)
    assert error(tmp_path / "v.npy") == f"v.npy: an array names no words. {fix}"
    assert error(save_safetensors(tmp_path / "v.safetensors", {"vectors": vectors})).endswith(fix)


def test_vocabulary_files(tmp_path: Path, vectors: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    np.save(tmp_path / "v.npy", vectors)
    words = tmp_path / "words"

    def line(content: bytes) -> str:
        return error(tmp_path / "v.npy", vocabulary=write(words, content))

    def missing() -> str:
        return error(tmp_path / "v.npy", vocabulary=tmp_path / "no")

    assert line(b"").startswith("words: the vocabulary file is empty")
    folder = error(tmp_path / "v.npy", vocabulary=tmp_path)
    assert "cannot be read (found Is a directory, expected one word a line)." in folder
    assert missing() == "no: there is no such file (expected the words of the rows, one a line)."
    expected = "words: the vocabulary file is empty (found no word, expected one word a line)."
    assert line(b"") == expected
    assert line(b"the\nof\n") == "words: words and rows differ (found 2 words, expected the 6 rows of v.npy)."
    expected = r"words:2: a word that is not UTF-8 (found 'K\xf6nig', byte 2, expected UTF-8)."
    assert line(b"the\nK\xf6nig\n") == expected
    write(words, "the\r\nof\r\nthe\r\na\u2028b\r\nx\r\ny".encode())
    assert read_vectors(tmp_path / "v.npy", WANTED, vocabulary=words).ids == [0, 2]
    assert caplog.messages == [f"{tmp_path}/v.npy: row 3: duplicate word 'the'; the first row of a word is kept."]


def test_damaged_arrays(tmp_path: Path, vectors: np.ndarray) -> None:
    words = save_words(tmp_path / "words")
    broken = vectors.copy()
    broken[2, 0] = np.inf
    np.save(tmp_path / "v.npy", broken)
    expected = "v.npy: row 3: value 1 of the word 'of' is not finite (found inf, expected a finite number)."
    assert error(tmp_path / "v.npy", vocabulary=words) == expected
    np.save(tmp_path / "v.npy", np.ones(3))
    expected = "v.npy: not an array of vectors (found shape (3,), float64, expected (rows, N) floats)."
    assert error(tmp_path / "v.npy", vocabulary=words) == expected
    np.save(tmp_path / "v.npy", vectors)
    whole = (tmp_path / "v.npy").read_bytes()
    line = error(write(tmp_path / "v.npy", whole[:-8]), vocabulary=words)
    assert line.startswith("v.npy: not a whole npy file (found ")
    assert "not a whole npy file" in error(write(tmp_path / "v.npy", pickle.dumps(Trap())), vocabulary=words)
    expected = "not a whole safetensors file (found "
    path = save_safetensors(tmp_path / "v.safetensors", {"vectors": vectors})
    assert expected in error(write(path, path.read_bytes()[:-8]), vocabulary=words)
    assert expected in error(write(path, b"no safetensors"), vocabulary=words)


def test_an_npy_header_that_claims_too_much(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (2_000_000_000, 300)}
    np.lib.format.write_array_header_1_0(buffer, header)
    path = write(tmp_path / "v.npy", buffer.getvalue() + struct.pack("<4f", 1, 2, 3, 4))
    assert error(path).startswith("v.npy: not a whole npy file (found ")


def test_tensors_that_cannot_be_chosen_from(tmp_path: Path, vectors: np.ndarray) -> None:
    path = save_safetensors(tmp_path / "v.safetensors", {"a": vectors, "b": vectors})
    expected = (
        "v.safetensors: no tensor to take vectors from (found a F32[6, 7], b F32[6, 7], "
        "expected 'vectors', or one 2-D tensor only, of float16, bfloat16, float32 or float64)."
    )
    assert error(path) == expected


def test_a_recipe_that_is_no_json(tmp_path: Path, vectors: np.ndarray) -> None:
    from safetensors.numpy import save_file

    save_file({"vectors": vectors}, tmp_path / "v.safetensors", metadata={"recipe": "{"})
    line = error(tmp_path / "v.safetensors")
    assert line.startswith("v.safetensors: the recipe in its metadata is no JSON (found ")


@pytest.mark.parametrize("form", ["text", "glove", "binary", "gzip", "npy", "safetensors"])
def test_random_damage_is_read_or_refused_and_nothing_else(tmp_path: Path, vectors: np.ndarray, form: str) -> None:
    from safetensors.numpy import save

    array = io.BytesIO()
    np.save(array, vectors)
    whole = {
        "text": text(vectors),
        "glove": text(vectors, header=False),
        "binary": binary(vectors),
        "gzip": gzip.compress(text(vectors)),
        "npy": array.getvalue(),
        "safetensors": save({"vectors": vectors}),
    }[form]
    words = save_words(tmp_path / "words")
    rng = np.random.default_rng(11)
    for _ in range(150):
        content = bytearray(whole[: rng.integers(1, len(whole) + 1)] if rng.random() < 0.3 else whole)
        for position in rng.integers(0, min(len(content), 200), size=rng.integers(0, 4)):
            content[position] = rng.integers(256)
        path = write(tmp_path / f"v.{form}", bytes(content))
        try:
            found = read_vectors(path, WANTED, vocabulary=words)
        except InputError:
            continue
        assert np.isfinite(found.vectors).all()


# --- our own output matrices -----------------------------------------------------------------------------


def matrix(vectors: np.ndarray, words: list[str] = WORDS) -> OutputMatrix:
    unit = unit_rows(vectors)
    recipe = {"vocabulary_sha256": hash_words(words), "vocabulary_size": len(words), "sha256": hash_vectors(unit)}
    return OutputMatrix(unit, recipe)


def test_an_output_matrix_of_this_vocabulary_needs_no_words(tmp_path: Path, vectors: np.ndarray) -> None:
    own = matrix(vectors)
    own.save(tmp_path / "m.safetensors")
    found = read_vectors(tmp_path / "m.safetensors", WANTED, vocabulary_hash=hash_words(WORDS))
    assert found.ids == list(range(6))
    np.testing.assert_array_equal(found.vectors, own.vectors)


def test_an_output_matrix_of_another_vocabulary(tmp_path: Path, vectors: np.ndarray) -> None:
    path = tmp_path / "m.safetensors"
    matrix(vectors).save(path)
    built_for, current = hash_words(WORDS), hash_words(WORDS[:3])
    wanted = {word: i for i, word in enumerate(WORDS[:3])}
    fix = "give the words of its rows, one a line, by `vocabulary` FILE or as vocabulary.txt beside it"
    expected = (
        "m.safetensors: a matrix built for another vocabulary is refused "
        f"(found vocabulary SHA-256 {current}, expected {built_for}). Fix: build it anew, or {fix}"
    )
    assert error(path, wanted, vocabulary_hash=current) == expected
    other = save_words(tmp_path / "other", WORDS[::-1])
    line = error(path, wanted, vocabulary_hash=current, vocabulary=other)
    assert f"(found vocabulary SHA-256 {hash_words(WORDS[::-1])} of other, expected {built_for})" in line
    save_words(tmp_path / "vocabulary.txt")  # as in a run directory
    assert read_vectors(path, wanted, vocabulary_hash=current).ids == [0, 1, 2]


def test_an_output_matrix_that_was_changed(tmp_path: Path, vectors: np.ndarray) -> None:
    own = matrix(vectors)
    changed = own.vectors.copy()
    changed[0, 0] += 1
    path = save_safetensors(tmp_path / "m.safetensors", {"vectors": changed}, own.recipe)
    line = error(path, vocabulary_hash=hash_words(WORDS))
    assert line.startswith("m.safetensors: the vectors were changed since they were built (found ")
    path = save_safetensors(tmp_path / "m.safetensors", {"vectors": own.vectors[:4]}, own.recipe)
    expected = "m.safetensors: rows and vocabulary differ (found 4 rows, expected 6 by its recipe)."
    assert error(path, vocabulary_hash=hash_words(WORDS)) == expected
