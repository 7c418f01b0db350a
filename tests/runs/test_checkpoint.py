"""Checkpoints on disk: what damage, full disks and links do to them, which is nothing."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import shutil
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from fixlm.console import listening
from fixlm.errors import InputError, WriteError
from fixlm.runs import checkpoint

FILES = (checkpoint.MODEL, checkpoint.TRAINING, checkpoint.STATE, checkpoint.MANIFEST)


def save(root: Path, step: int, *, best: bool = False, size: int = 100) -> None:
    tensors = {"weight": torch.full((size,), float(step))}
    checkpoint.save(root, step, tensors, tensors, {"step": step}, best=best)


def newest(root: Path) -> tuple[int, list[str]]:
    """The step that a start would take, and the lines it would say."""
    lines: list[str] = []
    with listening(lines.append):
        found = checkpoint.newest(root)
    assert found is not None
    assert (found.model()["weight"] == found.state()["step"]).all()
    return found.state()["step"], lines


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_two_checkpoints_and_the_best_are_kept(tmp_path: Path) -> None:
    for step, best in ((1, True), (2, False), (3, False), (10, False)):
        save(tmp_path, step, best=best)
    assert names(tmp_path) == ["best", "last", "step-1", "step-10", "step-3"]
    assert os.readlink(tmp_path / "last") == "step-10"
    assert os.readlink(tmp_path / "best") == "step-1"
    assert newest(tmp_path) == (10, [])


HARMS: dict[str, Callable[[Path], Any]] = {
    "cut": lambda path: os.truncate(path, path.stat().st_size - 2),
    "emptied": lambda path: os.truncate(path, 0),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "one bit flipped": lambda path: path.write_bytes(
        path.read_bytes()[:-3] + bytes([path.read_bytes()[-3] ^ 1]) + path.read_bytes()[-2:]
    ),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "missing": lambda path: path.unlink(),
    "a directory": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a link": lambda path: (path.rename(path.parent / "x"), path.symlink_to("x")),
}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_named_and_the_checkpoint_before_taken(tmp_path: Path, file: str, harm: str) -> None:
    save(tmp_path, 4)
    save(tmp_path, 6)
    HARMS[harm](tmp_path / "step-6" / file)
    step, (line,) = newest(tmp_path)
    assert step == 4
    assert line.startswith(f"warning: {tmp_path}/step-6/")
    assert line.endswith(" Trying the one before it.")
    # Where the manifest itself is harmed but still JSON, it is the files that do not agree with it.
    assert f"/{file}: " in line or file == checkpoint.MANIFEST


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", "null", '{"model.safetensors": 3}', "[" * 100_000, '{"a": {"bytes": 1}}', "\ud800"]
)
def test_a_manifest_of_any_content_is_no_crash(tmp_path: Path, content: str) -> None:
    save(tmp_path, 4)
    save(tmp_path, 6)
    (tmp_path / "step-6" / "manifest.json").write_bytes(content.encode(errors="surrogatepass"))
    assert newest(tmp_path)[0] == 4


def test_all_damaged_is_none_and_each_is_named(tmp_path: Path, log: list[str]) -> None:
    for step in (4, 6):
        save(tmp_path, step)
        (tmp_path / f"step-{step}" / "state.json").unlink()
    assert checkpoint.newest(tmp_path) is None
    assert [line.split(": ")[1] for line in log] == [f"{tmp_path}/step-{step}/state.json" for step in (6, 4)]
    assert checkpoint.newest(tmp_path / "nowhere") is None


def test_a_damaged_checkpoint_does_not_count_as_one_of_the_two(tmp_path: Path) -> None:
    """Resumed from step 4 since step 6 is damaged: step 5 must not push step 4 out."""
    for step in (2, 4, 6):
        save(tmp_path, step)
    (tmp_path / "step-6" / "model.safetensors").unlink()
    assert newest(tmp_path)[0] == 4
    save(tmp_path, 5)
    assert names(tmp_path) == ["last", "step-4", "step-5"]
    for step in (4, 5):
        checkpoint.verify(tmp_path / f"step-{step}")


def test_a_damaged_checkpoint_is_replaced_when_its_step_comes_again(tmp_path: Path) -> None:
    save(tmp_path, 4)
    save(tmp_path, 6)
    (tmp_path / "step-6" / "model.safetensors").write_bytes(b"")
    save(tmp_path, 6)
    assert newest(tmp_path) == (6, [])


def test_left_over_temporaries_are_swept(tmp_path: Path) -> None:
    save(tmp_path, 4)
    (tmp_path / ".step-6.tmp").mkdir()
    (tmp_path / ".step-6.tmp" / "model.safetensors").write_bytes(b"half")
    (tmp_path / ".best.tmp").symlink_to("step-6")
    assert newest(tmp_path) == (4, [])
    assert names(tmp_path) == ["last", "step-4"]


def test_modes_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save(tmp_path / "root", 1)
    finally:
        os.umask(before)
    for path in (tmp_path / "root" / "step-1").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o640, path
    assert stat.S_IMODE((tmp_path / "root" / "step-1").stat().st_mode) == 0o750


# --- a disk that fails -----------------------------------------------------------------------------------


def failing_at(call: int, name: str, number: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Makes the given call of an `os` function raise; the list counts them."""
    calls = [0]
    real = getattr(os, name)

    def function(*arguments: Any, **keywords: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            raise OSError(number, os.strerror(number))
        return real(*arguments, **keywords)

    monkeypatch.setattr(os, name, function)
    return calls


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("name", ["fsync", "replace", "rename", "mkdir", "symlink"])
def test_a_failing_call_leaves_the_old_checkpoints_and_no_temporary(
    tmp_path: Path, name: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = 0
    while True:
        call += 1
        root = tmp_path / str(call)
        save(root, 2)
        save(root, 4, best=True)
        with monkeypatch.context() as patch:
            calls = failing_at(call, name, number, patch)
            message = None
            try:
                save(root, 6, best=True)
            except InputError as error:
                message = str(error)
        if calls[0] < call:  # every call of it has failed once
            break
        if message is None:  # mkdir of a directory that is there may fail as it likes
            assert name == "mkdir"
        else:
            assert message == (
                f"{root}/step-6: the checkpoint cannot be written (found [Errno {number}] {os.strerror(number)}). "
                "Fix: make room, then --resume"
            )
            for step in (2, 4):
                checkpoint.verify(root / f"step-{step}")
        assert not [path for path in root.iterdir() if path.name.startswith(".step")]
        assert newest(root)[0] in (4, 6)  # 6 where it was in place before the fault
        save(root, 6, best=True)
        assert newest(root) == (6, [])
    assert call > 1


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """The system itself refuses to write a file beyond that size, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("size", [0, 300, 4096])
def test_a_write_that_the_system_cuts_short_leaves_the_old_checkpoint(tmp_path: Path, size: int) -> None:
    save(tmp_path, 2, size=5000)
    with files_up_to(size), pytest.raises(WriteError, match=r"step-4: the checkpoint cannot be written \(found "):
        save(tmp_path, 4, size=5000)
    assert names(tmp_path) == ["last", "step-2"]
    assert newest(tmp_path) == (2, [])


# --- links -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["..", "../other", ".", "", "step-1/../../other", "best/../..", "step-x", "/tmp"])
def test_no_name_leads_out_of_the_directory(tmp_path: Path, name: str) -> None:
    save(tmp_path / "root", 1, best=True)
    save(tmp_path / "other", 1)
    assert checkpoint.find(tmp_path / "root", name) is None


def test_no_link_leads_out_of_the_directory(tmp_path: Path) -> None:
    root = tmp_path / "root"
    save(root, 1)
    save(tmp_path / "other", 9)
    (root / "best").symlink_to(tmp_path / "other" / "step-9")
    assert checkpoint.find(root, "best") is None
    (root / "step-9").symlink_to(tmp_path / "other" / "step-9")
    step, (line,) = newest(root)
    assert step == 1
    assert "step-9: not a checkpoint (found a link or a file, expected a directory)." in line


def test_a_consistent_manifest_does_not_make_a_file_safetensors(tmp_path: Path) -> None:
    save(tmp_path, 1)
    for name, content in ((checkpoint.MODEL, b"no safetensors"), (checkpoint.STATE, b"[" * 100_000)):
        (tmp_path / "step-1" / name).write_bytes(content)
        manifest = json.loads((tmp_path / "step-1" / "manifest.json").read_text())
        manifest[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        (tmp_path / "step-1" / "manifest.json").write_text(json.dumps(manifest))
    found = checkpoint.verify(tmp_path / "step-1")
    with pytest.raises(InputError, match=r"model.safetensors: not a whole safetensors file \(found "):
        found.model()
    with pytest.raises(InputError, match=r"state.json: no state of a run \(found nested too deeply\)"):
        found.state()


def test_a_copy_that_followed_the_links_can_be_read_and_gone_on_with(tmp_path: Path) -> None:
    save(tmp_path / "a", 1, best=True)
    save(tmp_path / "a", 2)
    shutil.copytree(tmp_path / "a", tmp_path / "b")  # links become directories
    for name, step in (("best", 1), ("last", 2)):
        path = checkpoint.find(tmp_path / "b", name)
        assert path is not None
        assert checkpoint.verify(path).state() == {"step": step}
    save(tmp_path / "b", 3)
    assert os.readlink(tmp_path / "b" / "last") == "step-3"
