"""Full disks, other processes, files that changed or were damaged, readers that go away: what a user then sees."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import assert_same_end, interrupt, losses, train

import embeddings
from fixlm import cli, errors
from fixlm.corpus.corpus import load
from fixlm.evaluation.run import load as load_run
from fixlm.runs.directory import RunDirectory
from fixlm.training import fit as training
from fixlm.training import trainer

pytestmark = pytest.mark.slow  # most of these train a model


@pytest.mark.parametrize("file", ["metrics.jsonl", "result.json", "config.json", "vocabulary.txt"])
def test_a_full_disk_is_one_line_and_costs_nothing(
    file: str, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    flags = [*small, "--output-embed", "tied", "--run"]
    assert train(*flags, str(tmp_path / "whole")) == 0
    real = open

    def full(path: Any, mode: str = "r", *arguments: Any, **keywords: Any) -> Any:
        if file in str(path) and str(path).startswith(str(run)) and mode != "rb":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real(path, mode, *arguments, **keywords)

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", full)
        patch.setattr("io.open", full)  # what pathlib calls
        assert train(*flags, str(run)) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert line.endswith(": cannot be written (found No space left on device). Fix: make room, then --resume")
    if file in ("config.json", "vocabulary.txt"):
        assert not run.exists()
        assert train(*flags, str(run)) == 0
    else:
        assert train("--resume", "--run", str(run)) == 0
    assert_same_end(tmp_path / "whole", run)


@pytest.mark.parametrize("layer", ["random-orthogonal", "walsh"])
def test_a_cache_that_cannot_be_written_costs_one_warning(
    layer: str, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FIXLM_CACHE", str(tmp_path / "file"))
    assert train(*small, "--output-embed", layer, "--run", str(tmp_path / "run")) == 0
    said = capsys.readouterr().err
    assert "no tokenised copy is kept, since the cache cannot be written: " in said
    assert "warning: the matrix is not kept, since the cache cannot be written: " in said


def test_two_processes_do_not_train_in_one_directory(
    small: list[str], tmp_path: Path, at_step: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    flags = [*small, "--output-embed", "tied", "--run", str(run)]
    statuses = []

    def start_another(trainer: Any) -> None:
        for arguments in (["--resume", "--run", str(run)], flags):
            command = [sys.executable, "-m", "fixlm.train", *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            statuses.append((done.returncode, done.stderr))

    at_step(5, start_another)
    assert train(*flags) == 0
    line = (
        f"fixlm: error: --run {run}: another process is training in this directory. "
        "Fix: wait for it to end, or choose another --run\n"
    )
    assert statuses == [(2, line), (2, line)]


def test_two_processes_do_not_begin_in_one_directory(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second comes while the first still builds its matrix and has written nothing."""
    flags = [*small, "--output-embed", "tied", "--run", str(tmp_path / "run")]
    real, statuses = trainer.new_model, []

    def build(*arguments: Any) -> Any:
        monkeypatch.setattr(trainer, "new_model", real)
        statuses.append(train(*flags))
        return real(*arguments)

    monkeypatch.setattr(trainer, "new_model", build)
    assert train(*flags) == 0
    assert statuses == [2]
    assert "another process is training in this directory" in capsys.readouterr().err
    assert (tmp_path / "run" / "result.json").is_file()


def test_a_lock_that_a_killed_process_left_keeps_nobody_out(small: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / ".lock").touch()
    assert RunDirectory(run).is_free()
    assert train(*small, "--output-embed", "tied", "--run", str(run)) == 0
    (run / "result.json").unlink()
    (run / ".lock").touch()
    assert train("--resume", "--run", str(run)) == 0
    assert not (run / ".lock").exists()


def test_the_system_lifts_the_lock_of_a_killed_process(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from fixlm.runs.directory import RunDirectory\n"
        "with RunDirectory(sys.argv[1]).locked(): os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / ".lock").exists()
    with RunDirectory(tmp_path).locked():
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_can_hold_runs(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def flock(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with RunDirectory(tmp_path).locked():
        pass
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("change", ["a bit", "another matrix", "missing", "a link"])
def test_a_matrix_that_changed_since_is_refused(
    change: str, small: list[str], tmp_path: Path, at_step: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    at_step(15, interrupt)
    assert train(*small, "--output-embed", "random-orthogonal", "--run", str(run)) == 130
    file = run / "output_matrix.safetensors"
    if change == "a bit":
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    elif change == "another matrix":  # whole, and its own hash is right
        embeddings.build("hadamard", load(small[1]).statistics(), 16).save(file)
    else:
        file.rename(tmp_path / "elsewhere")
        if change == "a link":
            file.symlink_to(tmp_path / "elsewhere")
    capsys.readouterr()
    expected = {
        "a bit": "the vectors were changed since they were built (found ",
        "another matrix": "not the matrix of this run (found ",
        "missing": "there is no such file.",
        "a link": "not a file of a run (found a link or a special file, expected a file).",
    }[change]
    for command in (["train", "--resume", "--run", str(run)], ["evaluate", str(run), "--checkpoint", "last"]):
        assert cli.main(command) == 2
        assert f"fixlm: error: {file}: {expected}" in capsys.readouterr().err


@pytest.mark.parametrize("end", ['{"step": 24, "lo', "\0" * 50, '{"step": "x"}', "[3]", "\udcff", "[" * 99_999])
def test_metrics_whose_last_line_was_cut_are_read(
    end: str, small: list[str], tmp_path: Path, at_step: Callable[..., None]
) -> None:
    assert train(*small, "--output-embed", "tied", "--run", str(tmp_path / "whole")) == 0
    run = tmp_path / "run"
    at_step(15, interrupt)
    assert train(*small, "--output-embed", "tied", "--run", str(run)) == 130
    with open(run / "metrics.jsonl", "ab") as file:
        file.write(end.encode(errors="surrogateescape"))
    assert [record["step"] for record in RunDirectory(run).read_metrics()] == [10, 12]
    assert train("--resume", "--run", str(run)) == 0
    assert losses(run) == losses(tmp_path / "whole")


def test_a_result_that_was_damaged_is_made_again(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*small, "--output-embed", "tied", "--run", str(tmp_path / "run")]
    assert train(*flags) == 0
    result = tmp_path / "run" / "result.json"
    whole = json.loads(result.read_text())
    for damaged in ("", "{}", "[]", '{"valid": 3}', result.read_text()[:-20], "[" * 99_999):
        result.write_text(damaged)
        assert train(*flags) == 2
        assert "Fix: --resume to go on with it" in capsys.readouterr().err
        assert train("--resume", "--run", str(tmp_path / "run")) == 0
        assert json.loads(result.read_text())["test"] == whole["test"]


def test_a_corpus_that_changed_is_refused_with_both_sides(
    small: list[str], tmp_path: Path, at_step: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(small[1], data)
    run = tmp_path / "run"
    at_step(5, interrupt)
    assert train(*small[2:], "--data", str(data), "--output-embed", "tied", "--run", str(run)) == 130
    with open(data / "train.txt", "a") as file:
        file.write("the mouse sees the cat .\n")
    capsys.readouterr()
    assert train("--resume", "--run", str(run)) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(
        r"fixlm: error: --data: not the corpus of this run \(found V = 13, (\d+) / (\d+) / (\d+) tokens, SHA-256 "
        r"[0-9a-f]{12}, expected V = 12, (?!\1)\d+ / \2 / \3 tokens, SHA-256 [0-9a-f]{12}\)\. "
        "Fix: give the run's own text by --data, or start another run",
        line,
    )


def test_a_reader_of_the_log_that_goes_away_ends_no_training(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Gone())
    assert train(*small, "--output-embed", "tied", "--run", str(tmp_path / "run")) == 0
    assert (tmp_path / "run" / "result.json").is_file()


@pytest.mark.parametrize("name", ["text", "in/a/folder"])
def test_a_corpus_that_moved_is_asked_for_by_its_flag(
    name: str, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(small[1], name)
    assert train(*small[2:], "--data", name, "--output-embed", "tied", "--run", "run") == 0
    os.rename(name, "moved")
    capsys.readouterr()
    assert cli.main(["evaluate", "run"]) == 2
    assert capsys.readouterr().err == (
        f"fixlm: error: run/config.json: it names the corpus {name}, which is not there. "
        "Fix: name the folder that has the corpus now: --data FOLDER (data= in Python)\n"
    )
    assert cli.main(["evaluate", "run", "--data", "moved"]) == 0


def test_no_pickle_is_opened_in_a_whole_life_of_a_run(
    small: list[str], tmp_path: Path, at_step: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pickle

    import numpy as np

    def trap(*arguments: Any, **keywords: Any) -> None:
        pytest.fail("a pickle was opened")

    for module, name in ((torch, "load"), (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (np, "load")):
        monkeypatch.setattr(module, name, trap)
    run = str(tmp_path / "run")
    at_step(5, interrupt)
    assert train(*small, "--output-embed", "pmi", "--output-dim", "8", "--run", run) == 130
    assert train("--resume", "--run", run) == 0
    assert cli.main(["evaluate", run]) == 0


# --- what is printed ---------------------------------------------------------------------------------------


def test_a_reader_that_goes_away_ends_a_command_quietly(small: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(*small, "--output-embed", "tied", "--run", str(run)) == 0
    for command in (
        ["train", *small, "--output-embed", "tied", "--run", str(run)],
        ["evaluate", str(run), "--split", "valid"],
    ):
        assert without_a_reader("from fixlm import cli; sys.exit(cli.main(sys.argv[1:]))", *command) == 141


def test_a_reader_that_goes_away_ends_rich_quietly() -> None:
    """With its first bytes, however fast the reader went: rich itself would exit with status 1."""
    program = "from fixlm import cli, console; show = lambda _: console.rich_console().print('a table')"
    assert without_a_reader(f"{program}; sys.exit(cli.run(show, []))") == 141


def without_a_reader(program: str, *arguments: str) -> int:
    """The exit status of a program whose output nobody reads; it must not complain."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-c", f"import sys; {program}", *arguments]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr
    return done.returncode


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_an_output_that_cannot_be_written_is_one_line() -> None:
    shell = f"{sys.executable} -c 'import sys; from fixlm import cli; sys.exit(cli.main([]))' > /dev/full"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "fixlm: error: output: cannot be read or written (found No space left on device).\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(13, "Permission denied", "a/b"), "a/b: cannot be read or written (found Permission denied)."),
        (MemoryError(), "memory: there is not enough of it. Fix: lower the sizes ("),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: x\ny"),
            "memory: there is not enough of it (found [enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: ",
        ),
    ],
)
def test_what_the_machine_refuses_is_one_line(error: Exception, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise error

    assert errors.report(command) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"fixlm: error: {line}")


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    def command() -> None:
        raise RuntimeError("a fault of this program")

    with pytest.raises(RuntimeError, match="a fault of this program"):
        errors.report(command)


@pytest.mark.parametrize("size", ["2000000", "4000000000"])
def test_sizes_beyond_the_memory_are_one_line(
    size: str, small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*small, "--hidden-size", size, "--output-embed", "learned", "--run", str(tmp_path / "run")]
    assert train(*flags) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert line.startswith("fixlm: error: memory: there is not enough of it (found ")
    assert not (tmp_path / "run").exists()


def test_a_place_for_runs_that_cannot_be_is_told_before_the_text_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("")
    monkeypatch.setattr(training.corpus, "load", None)  # must not be called
    assert train("--data", "sample") == 2
    expected = "fixlm: error: runs: is a file (expected a directory for runs). Fix: choose another place by --run\n"
    assert capsys.readouterr().err == expected
    (tmp_path / "runs").unlink()
    monkeypatch.setattr(os, "access", lambda *arguments: False)
    assert train("--data", "sample") == 2
    assert "runs: cannot be written. Fix: choose another place by --run" in capsys.readouterr().err


def test_a_directory_with_files_of_the_same_names_is_not_taken(tmp_path: Path, small: list[str]) -> None:
    """Only a run that had its first checkpoint can have left them."""
    own = tmp_path / "own"
    (own / "checkpoints").mkdir(parents=True)
    (own / "tokenizer.model").write_text("mine")
    assert train(*small, "--output-embed", "tied", "--run", str(own)) == 2
    assert (own / "tokenizer.model").read_text() == "mine"


def test_a_tilde_is_the_home_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert RunDirectory("~/a").path == tmp_path / "a"


def test_a_vocabulary_that_was_cut_is_refused(small: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(*small, "--output-embed", "tied", "--run", str(run)) == 0
    words = (run / "vocabulary.txt").read_text().splitlines(keepends=True)
    for wrong in (words[:-1], [*words[:-1], words[0]]):
        (run / "vocabulary.txt").write_text("".join(wrong))
        with pytest.raises(errors.InputError, match="not the vocabulary of this run"):
            load_run(run).score("the cat")


def test_vectors_that_changed_are_no_finished_run(small: list[str], tmp_path: Path, tiny_corpus: Path) -> None:
    vectors, run = tmp_path / "v.txt", tmp_path / "run"
    words = sorted({*(tiny_corpus / "train.txt").read_text().split()})
    flags = [*small, "--output-embed", str(vectors), "--run", str(run)]
    for seed in (1, 2):
        rows = torch.randn(len(words), 16, generator=torch.Generator().manual_seed(seed)).tolist()
        vectors.write_text(
            "".join(f"{word} {' '.join(map(str, row))}\n" for word, row in zip(words, rows, strict=True))
        )
        assert train(*flags) == (0 if seed == 1 else 2)
    vectors.unlink()
    assert train(*flags) == 2  # a flag names a file that is not there
    assert load_run(run).score("the cat").words == ["the", "cat"]
