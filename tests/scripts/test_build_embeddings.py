"""``scripts/build_embeddings.py``: its flags, its files and what it prints."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import embeddings
from embeddings import InputError, OutputMatrix
from embeddings.output_matrix import check_export, check_words
from fixlm.corpus import corpus

SCRIPT = Path(__file__).parents[2] / "scripts" / "build_embeddings.py"
TEXT = """\
the war of the season and the government of the north
a season of war in the north and the south
the government in the south and a war of words
"""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    specification = importlib.util.spec_from_file_location("build_embeddings", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["build_embeddings"] = module
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "valid", "test"):
        text = TEXT if split == "train" else TEXT.replace("\n", " ")  # the same words, and no line of train
        (folder / f"{split}.txt").write_text(text, encoding="utf-8")
    return folder


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the script in this process: exit status, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        status = script.run(script.command, [str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return call


def words_of(data: Path) -> list[str]:
    return corpus.load(str(data)).words


@pytest.mark.parametrize("method", ["random-orthogonal", "hadamard", "sylvester"])
def test_it_builds_writes_and_reports(run: Run, data: Path, tmp_path: Path, method: str) -> None:
    out = tmp_path / "matrix.safetensors"
    status, printed, _ = run(method, "--data", data, "--dim", 8, "--seed", 3, "--out", out)
    assert status == 0
    matrix = OutputMatrix.load(out)
    assert matrix.recipe["method"] == method
    assert (matrix.recipe["seed"], matrix.recipe["dim"]) == (3, 8)
    assert matrix.vectors.shape == (len(words_of(data)), 8)
    for part in ("coherence", "Welch bound", "rank", "row norms", "distinct rows", matrix.sha256, str(out)):
        assert part in printed.replace("\n", "")
    assert "nearest neighbours" in printed
    assert any(line.startswith("government") for line in printed.splitlines())


@pytest.mark.parametrize("suffix", [".txt", ".vec", ".bin"])
def test_word2vec_files_load_in_gensim(run: Run, data: Path, tmp_path: Path, suffix: str) -> None:
    from gensim.models import KeyedVectors

    arguments = ["random-orthogonal", "--data", data, "--dim", 6]
    assert run(*arguments, "--out", tmp_path / f"m{suffix}")[0] == 0
    assert run(*arguments, "--out", tmp_path / "m.safetensors")[0] == 0
    keyed = KeyedVectors.load_word2vec_format(str(tmp_path / f"m{suffix}"), binary=suffix == ".bin")
    assert keyed.index_to_key == words_of(data)
    np.testing.assert_array_equal(keyed.vectors, OutputMatrix.load(tmp_path / "m.safetensors").vectors)


@pytest.mark.parametrize("suffix", [".txt", ".bin", ".safetensors"])
def test_what_it_writes_comes_back_as_pretrained(run: Run, data: Path, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"m{suffix}"
    assert run("random-orthogonal", "--data", data, "--dim", 6, "--out", file)[0] == 0
    again = tmp_path / "again.safetensors"
    status, _, log = run("pretrained", "--file", file, "--data", data, "--out", again)
    assert status == 0
    size = len(words_of(data))
    assert f"{file}: vectors for {size} of {size} words: 100.0 % of the types" in log
    statistics = corpus.load(str(data)).statistics()
    expected = embeddings.build("random-orthogonal", statistics, 6, seed=1).vectors
    np.testing.assert_allclose(OutputMatrix.load(again).vectors, expected, atol=1e-7)


def test_the_same_command_gives_the_same_bytes(run: Run, data: Path, tmp_path: Path) -> None:
    for name in ("first.safetensors", "second.safetensors"):
        assert run("random-orthogonal", "--data", data, "--dim", 8, "--out", tmp_path / name)[0] == 0
    assert (tmp_path / "first.safetensors").read_bytes() == (tmp_path / "second.safetensors").read_bytes()


@pytest.mark.slow
def test_a_dask_cluster_counts_and_the_file_is_the_same(run: Run, data: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    arguments = ["pmi", "--data", data, "--dim", 4, "--lags", "1,3"]
    alone, shared = tmp_path / "alone.safetensors", tmp_path / "shared.safetensors"
    assert run(*arguments, "--out", alone)[0] == 0
    with distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as cluster:
        assert run(*arguments, "--out", shared, "--dask", cluster.scheduler_address)[0] == 0
    assert shared.read_bytes() == alone.read_bytes()


def test_warnings_of_a_builder_are_shown(run: Run, data: Path, tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("the 1 0\nof 0 1\n", encoding="utf-8")
    out = tmp_path / "m.bin"
    status, _, log = run("pretrained", "--file", tmp_path / "v.txt", "--data", data, "--out", out)
    assert status == 0
    assert f"warning: {tmp_path}/v.txt: less than half of the vocabulary has a vector" in log
    assert "no header; read as GloVe text" in log


def test_each_method_has_its_options_as_flags(script: ModuleType) -> None:
    settings, _, options = script.parse(
        "pretrained", ["--out", "m.bin", "--file", "v", "--lowercase-fallback", "--seed", "9", "--format", "text"]
    )
    assert (settings.out, settings.seed, settings.dim) == ("m.bin", 9, None)
    assert (options.file, options.format, options.lowercase_fallback) == ("v", "text", True)
    for method in embeddings.names():
        settings, _, options = script.parse(method, ["--out", "m.bin"])
        assert options == embeddings.get(method).Options()


# --- errors ----------------------------------------------------------------------------------------------


def refused(run: Run, *arguments: object) -> list[str]:
    status, printed, log = run(*arguments)
    assert status == 2
    assert printed == ""
    return log.removesuffix("\n").split("\n")


def test_an_unknown_method(run: Run) -> None:
    (line,) = refused(run, "pmj", "--out", "m.bin")
    fix = "Did you mean 'pmi'? Choose one of: cca, hadamard, "
    start = f"fixlm: error: METHOD: unknown output matrix 'pmj'. Fix: {fix}"
    assert line.startswith(start)


def test_no_method(run: Run) -> None:
    expected = (
        f"fixlm: error: METHOD: comes first (found nothing, expected {' | '.join(embeddings.names())}). "
        "Fix: python scripts/build_embeddings.py METHOD --out FILE"
    )
    assert refused(run) == [expected]
    assert "comes first (found --dim" in refused(run, "--dim", 3)[0]


def test_all_wrong_values_at_once(run: Run) -> None:
    lines = refused(run, "pretrained", "--dim", 0, "--seed", "x", "--format", "txt")
    assert lines[0] == "fixlm: error: --dim: out of range (found 0, expected a whole number at least 1)."
    assert lines[1].startswith("fixlm: error: --seed: not a number (found 'x', expected a whole number")
    assert lines[2].startswith("fixlm: error: --format: unknown choice 'txt'. Fix: Did you mean 'text'?")
    expected = "fixlm: error: --out: no file to write is named. Fix: add --out FILE.safetensors"
    assert lines[3:] == [expected]


def test_a_cluster_is_for_methods_that_count(run: Run) -> None:
    (line,) = refused(run, "hadamard", "--dask", "tcp://127.0.0.1:9", "--out", "m.bin")
    assert line == "fixlm: error: --dask: hadamard counts no pairs of words. Fix: leave it out"


def test_abbreviated_and_unknown_flags(run: Run) -> None:
    (line,) = refused(run, "hadamard", "--tok", "word", "--out", "m.bin")
    assert line.startswith("fixlm: error: --tok: unknown flag (flags cannot be abbreviated). Fix: ")


@pytest.mark.parametrize(
    ("out", "expected"),
    [
        ("m.npz", "the suffix names no format (found '{tmp}/m.npz', expected .safetensors (safetensors with the"),
        ("no/m.bin", "there is no such folder (found '{tmp}/no'). Fix: make it first"),
        ("folder.bin", "is a directory (found '{tmp}/folder.bin', expected a file)."),
        ("v.txt/m.bin", "there is no such folder (found '{tmp}/v.txt'). Fix: make it first"),
    ],
)
def test_an_output_path_that_cannot_be_written_stops_it_before_the_work(
    run: Run, tmp_path: Path, out: str, expected: str
) -> None:
    (tmp_path / "folder.bin").mkdir()
    (tmp_path / "v.txt").touch()
    # The corpus does not exist either: that it is not what is complained about shows the order.
    (line,) = refused(run, "hadamard", "--data", tmp_path / "nowhere", "--out", tmp_path / out)
    assert line.startswith("fixlm: error: --out: " + expected.format(tmp=tmp_path))


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **keywords: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)  # chmod would not stop root
    with pytest.raises(InputError) as caught:
        check_export(tmp_path / "m.bin")
    assert str(caught.value) == f"--out: cannot be written: Permission denied (found '{tmp_path}/m.bin')."


def test_a_write_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **keywords: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(OutputMatrix, "save", refuse)
    with pytest.raises(InputError) as caught:
        OutputMatrix(np.eye(2), {}).export(tmp_path / "m.safetensors", ["a", "b"])
    assert str(caught.value) == f"{tmp_path}/m.safetensors: cannot be written: No space left on device."


def test_words_that_word2vec_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        check_words(tmp_path / "m.txt", ["a", "New York"])
    assert str(caught.value) == (
        "--out: a word that the word2vec formats cannot hold (found 'New York' (id 1), "
        "expected words without a space). Fix: write .safetensors"
    )
    check_words(tmp_path / "m.safetensors", ["a", "New York"])


def test_nothing_is_left_when_the_build_fails(run: Run, data: Path, tmp_path: Path) -> None:
    before = Counter(path.name for path in tmp_path.iterdir())
    (line,) = refused(run, "pretrained", "--data", data, "--out", tmp_path / "m.bin")
    assert line == "fixlm: error: --file: no file of vectors is named. Fix: name one by --file FILE"
    assert Counter(path.name for path in tmp_path.iterdir()) == before


def test_an_error_names_this_programs_flags(run: Run, data: Path, tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("das 1 0\nund 0 1\n", encoding="utf-8")
    arguments = ["pretrained", "--data", data, "--file", tmp_path / "v.txt", "--out", tmp_path / "m.bin"]
    assert run(*arguments)[2].endswith("tokenisation, or try --lowercase-fallback\n")
    assert run(*arguments, "--dim", 3)[2].endswith("(found 2, expected 3). Fix: set --dim to 2\n")


def test_debug_shows_the_traceback(run: Run) -> None:
    status, _, log = run("pmj", "--out", "m.bin", "--debug")
    assert status == 2
    assert log.startswith("Traceback")


# --- as a program ----------------------------------------------------------------------------------------

HEAVY = ("torch", "gensim", "datasets", "scipy", "safetensors", "sentencepiece")
HELP = f"""
import runpy, sys
sys.argv = ["build_embeddings.py", *sys.argv[1:]]
try:
    runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
except SystemExit as stop:
    loaded = [name for name in {HEAVY!r} if name in sys.modules]
    sys.exit(stop.code or (f"loaded: {{loaded}}" if loaded else 0))
"""


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in ("pretrained", "pmi", "word2vec"))])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", HELP, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: build_embeddings.py" in done.stdout
    if arguments == ["--help"]:
        assert all(f"  {name} " in done.stdout for name in embeddings.names())
    else:
        for flag in ("--data", "--tokenizer", "--vocab-size", "--dim", "--seed", "--out"):
            assert flag in done.stdout


def test_an_error_is_one_line_and_status_2() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "hadamard", "--dim", "0", "--out", "m.bin"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "fixlm: error: --dim: out of range (found 0, expected a whole number at least 1).\n"
