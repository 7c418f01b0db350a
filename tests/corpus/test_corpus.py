"""Reading a folder: vocabulary, ids, the cached copy, and the line that each fault gives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embeddings.errors import InputError
from fixlm.cache_directory import cache_directory
from fixlm.corpus import corpus, text_files, tokenised_copy
from fixlm.corpus.data_set import SPLITS


def write(folder: Path, **splits: bytes | str) -> str:
    """Writes splits as files; those not named get a small text."""
    folder.mkdir(exist_ok=True)
    for split, text in ({"train": "a b a\n", "valid": "b\n", "test": "a\n"} | splits).items():
        (folder / f"{split}.txt").write_bytes(text.encode() if isinstance(text, str) else text)
    return str(folder)


def read(data: str, **options: object) -> corpus.Corpus:
    return corpus.load(data, **options)  # type: ignore[arg-type]


def decoded(loaded: corpus.Corpus, split: str) -> list[str]:
    return [loaded.words[i] for i in loaded.splits[split]]


def error_of(data: str, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        read(data, **options)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FIXLM_CACHE", str(tmp_path / "fresh"))
    return tmp_path / "fresh"


def test_vocabulary_is_by_falling_count_in_train_with_ties_by_first_occurrence(tmp_path: Path) -> None:
    loaded = read(write(tmp_path / "data", train="d c b a\nb a\n\na\n", valid="a a d d d d\n", test="c"))
    assert loaded.words == ["<eos>", "a", "b", "d", "c"]
    assert loaded.counts.tolist() == [4, 3, 2, 1, 1]
    assert loaded.counts.dtype == np.int64
    assert loaded.end_of_line == 0
    assert " ".join(decoded(loaded, "train")) == "d c b a <eos> b a <eos> <eos> a <eos>"
    assert decoded(loaded, "test") == ["c", "<eos>"]  # the last line needs no newline
    assert loaded.splits["train"].dtype == np.int32
    assert loaded.word_totals == {"train": 11, "valid": 7, "test": 2}
    assert (loaded.name, loaded.unit, loaded.tokenizer_model, len(loaded)) == ("data", "word", None, 5)


def test_statistics_are_of_the_train_split(tmp_path: Path) -> None:
    loaded = read(write(tmp_path / "data"))
    statistics = loaded.statistics()
    assert statistics.ids is loaded.splits["train"]
    assert statistics.words == loaded.words
    assert statistics.end_of_line == loaded.end_of_line
    np.testing.assert_array_equal(statistics.counts, np.bincount(loaded.splits["train"]))


def test_files_may_be_named_as_in_wikitext(tmp_path: Path) -> None:
    for split in SPLITS:
        (tmp_path / f"wiki.{split}.tokens").write_text("a b\n")
    assert decoded(read(str(tmp_path)), "test") == ["a", "b", "<eos>"]


def test_only_a_newline_ends_a_line_and_a_bom_is_dropped(tmp_path: Path) -> None:
    text = "\ufeffa\u2028b\x85c\r\nd\re\x0cf\n"
    loaded = read(write(tmp_path / "data", train=text))
    assert decoded(loaded, "train") == ["a", "b", "c", "<eos>", "d", "e", "f", "<eos>"]


@given(text=st.text(alphabet=" \n\tabé字\u2028\r", max_size=60), size=st.integers(1, 20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_long_lines_in_pieces_give_the_same_words(text: str, size: int, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "PIECE_BYTES", size)
        words = [w for line, ends in text_files.read_lines(path) for w in [*line, *(["<eos>"] if ends else [])]]
    lines = text.split("\n")
    lines = lines[:-1] if lines[-1] == "" else lines
    assert words == [word for line in lines for word in [*line.split(), "<eos>"]]


@pytest.mark.parametrize("tokenizer", ["word", "bytes"])
def test_an_end_of_line_that_is_written_counts_once(tmp_path: Path, tokenizer: str) -> None:
    lines = {"train": "a b\nb a\n", "valid": "a\n", "test": "b a\n"}
    plain = read(write(tmp_path / "plain", **lines), tokenizer=tokenizer)
    written = {split: text.replace("\n", " <eos>\n") for split, text in lines.items()}
    marked = read(write(tmp_path / "marked", **written), tokenizer=tokenizer)
    assert [*marked.splits["train"]] == [*plain.splits["train"]]
    assert marked.word_totals == plain.word_totals


def test_unknown_words_of_valid_become_unk_and_are_counted_in_the_log(tmp_path: Path, log: list[str]) -> None:
    data = write(tmp_path / "data", train="a <unk>\n", valid="a x y x\n")
    for _ in range(2):  # the second time from the cached copy
        log.clear()
        loaded = corpus.load(data)
        assert decoded(loaded, "valid") == ["a", "<unk>", "<unk>", "<unk>", "<eos>"]
        assert loaded.words == ["a", "<unk>", "<eos>"]
        assert log == ["valid split: words that the train split lacks became <unk> (3 tokens, 2 different)"]


def test_the_hash_is_of_words_and_ids_not_of_names(tmp_path: Path) -> None:
    first = read(write(tmp_path / "one"))
    same = read(write(tmp_path / "two"))
    other = read(write(tmp_path / "three", test="a a\n"))
    assert first.sha256 == same.sha256 != other.sha256
    assert same.name == "two"  # though the cached copy was made for 'one'


def test_the_cached_copy_is_used_and_follows_the_content(
    tmp_path: Path, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(tmp_path / "data")
    before = read(data)
    with monkeypatch.context() as patch:
        patch.setattr(corpus, "_tokenise", None)  # must not be called
        again = read(data)
    assert again.sha256 == before.sha256
    assert again.words == before.words
    assert (again.counts.tolist(), again.word_totals) == (before.counts.tolist(), before.word_totals)
    assert decoded(read(write(tmp_path / "data", train="b a b\n")), "train") == ["b", "a", "b", "<eos>"]


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "garbage"])
def test_a_damaged_cached_copy_is_made_anew(tmp_path: Path, fresh_cache: Path, harm: str) -> None:
    data = write(tmp_path / "data", train="a b c d e f g\n")
    before = read(data)
    (path,) = (fresh_cache / "corpora").iterdir()
    good = path.read_bytes()
    bad = bytearray(good)
    bad[-3] ^= 1
    path.write_bytes({"flip": bytes(bad), "cut": good[:-5], "empty": b"", "garbage": b"x" * 99}[harm])
    assert read(data).sha256 == before.sha256
    assert path.read_bytes() == good


def test_a_flipped_bit_anywhere_in_the_copy_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "arrays.safetensors"
    arrays = {"ids": np.arange(5, dtype=np.int32)}
    tokenised_copy.write(path, arrays, {"unit": "word", "end_of_line": 3})
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :])
        if (kept := tokenised_copy.read(path)) is not None:  # a change of padding or of JSON's spelling
            np.testing.assert_array_equal(kept[0]["ids"], arrays["ids"])
            assert kept[1] == {"unit": "word", "end_of_line": 3}


def test_a_cache_that_cannot_be_written_costs_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FIXLM_CACHE", str(tmp_path / "file"))
    assert len(corpus.load(write(tmp_path / "data"))) == 3
    assert len(log) == 1
    assert log[0].startswith("no tokenised copy is kept, since the cache cannot be written: ")


def test_the_cache_directory_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIXLM_CACHE", "~/some/where")
    assert cache_directory() == Path.home() / "some/where"
    monkeypatch.delenv("FIXLM_CACHE")
    assert cache_directory().name == "fixlm"


@pytest.mark.parametrize(
    ("train", "line"),
    [
        (b"a\nb \xff c\n", "train.txt:2: not UTF-8 (found 0xff at byte 2 of the line). Fix: convert the file"),
        (b"a\nb\nc\xe2\x82", "train.txt:3: not UTF-8 (found 0xe2 at byte 1 of the line)."),
        (b"a\0b\n", "train.txt:1: a NUL byte (found byte 1 of the line)."),
        (b"", "train.txt: there is no word in it (expected the text of the train split)."),
        (b"\n \n\t\n", "train.txt: there is no word in it (expected the text of the train split)."),
        (b"\xef\xbb\xbf", "train.txt: there is no word in it (expected the text of the train split)."),
    ],
)
@pytest.mark.parametrize("tokenizer", ["word", "sentencepiece"])
def test_a_bad_text_is_named_by_file_and_line(tmp_path: Path, train: bytes, line: str, tokenizer: str) -> None:
    message = error_of(write(tmp_path / "data", train=train), tokenizer=tokenizer)
    assert message.startswith(f"{tmp_path}/data/{line}")


def test_the_byte_of_bad_utf8_counts_from_the_start_of_a_long_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "PIECE_BYTES", 8)
    message = error_of(write(tmp_path / "data", valid=b"a\n" + b"ab " * 30 + b"\xc3( \n"))
    assert "valid.txt:2: not UTF-8 (found 0xc3 at byte 90 of the line)" in message


def test_a_blank_valid_split_is_an_error_too(tmp_path: Path) -> None:
    assert "valid.txt: there is no word in it" in error_of(write(tmp_path / "data", valid="\n\n"))


def test_a_missing_split_names_the_path(tmp_path: Path) -> None:
    data = write(tmp_path / "data")
    os.remove(f"{data}/test.txt")
    expected = f"{data}/test.txt: the test split is missing (expected test.txt or wiki.test.tokens)."
    assert error_of(data) == expected
    assert "train.txt: the train split is missing" in error_of(str(tmp_path))


def test_a_split_that_is_no_file_names_the_path(tmp_path: Path) -> None:
    data = write(tmp_path / "data")
    os.remove(f"{data}/valid.txt")
    os.mkdir(f"{data}/valid.txt")
    assert error_of(data) == f"{data}/valid.txt: not a file (found a directory)."
    os.rmdir(f"{data}/valid.txt")
    os.mkfifo(f"{data}/valid.txt")
    assert error_of(data) == f"{data}/valid.txt: not a file (found a special file)."


def test_a_split_that_cannot_be_read_names_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    data = write(tmp_path / "data")
    monkeypatch.setattr(text_files.hashlib, "file_digest", denied)
    assert error_of(data) == f"{data}/train.txt: cannot be read: Permission denied."


def test_words_without_an_unk_to_take_them_are_an_error_with_examples(tmp_path: Path) -> None:
    message = error_of(write(tmp_path / "data", valid="a q r s t u v q\n"))
    assert message.startswith(
        f"{tmp_path}/data/valid.txt: it has words that the train split lacks, and there is no <unk> to take "
        "them (found 7 tokens, 6 different: 'q', 'r', 's', 't', 'u'). Fix: write <unk> for rare words in all"
    )


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ("sampel", "--data: unknown data set or folder 'sampel'. Fix: Did you mean 'sample'? Choose one of: "),
        ("wikitext2", "--data: unknown data set or folder 'wikitext2'. Fix: Did you mean 'wikitext-2'?"),
        ("", "--data: unknown data set or folder ''. Fix: Choose one of: "),
        ("no/such", "--data: there is no such folder (found no/such, expected a folder with train.txt, valid"),
        (__file__, f"--data: not a folder (found {__file__}, expected a folder with train.txt, valid.txt"),
    ],
)
def test_an_unknown_data_set_is_an_error_with_help(data: str, line: str) -> None:
    assert error_of(data).startswith(line)


def test_a_vocabulary_size_is_not_for_words(tmp_path: Path) -> None:
    assert error_of(write(tmp_path / "data"), vocab_size=500) == (
        "--vocab-size: words have no chosen vocabulary size (found 500). "
        "Fix: add --tokenizer sentencepiece, or leave --vocab-size out"
    )


def test_a_library_shows_no_more_than_warnings_unless_it_is_asked(tmp_path: Path) -> None:
    copied = "one line of train and valid\n"
    data = write(tmp_path / "data", train=copied + "<unk>\n", valid=copied, test="x\n")
    ask = "import logging; logging.basicConfig(format='%(message)s'); logging.getLogger('fixlm').setLevel('INFO'); "
    note = "test split: words that the train split lacks became <unk> (1 tokens, 1 different)\n"
    for before, shown in (("", ""), (ask, note)):
        code = f"{before}from fixlm.corpus import corpus; corpus.load({data!r})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == ""
        assert done.stderr.startswith(f"{shown}valid split: 100 % of its lines are in the train split too")


def test_importing_it_loads_nothing_heavy() -> None:
    heavy = ("torch", "gensim", "datasets", "sentencepiece")
    code = f"import sys, fixlm.corpus.corpus; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.skipif("FIXLM_WIKITEXT2" not in os.environ, reason="FIXLM_WIKITEXT2 names no folder with WikiText-2")
def test_wikitext_2_has_the_published_counts() -> None:
    loaded = read(os.environ["FIXLM_WIKITEXT2"])
    assert len(loaded) == 33278
    assert {k: len(v) for k, v in loaded.splits.items()} == {"train": 2088628, "valid": 217646, "test": 245569}
    assert loaded.counts.sum() == 2088628
