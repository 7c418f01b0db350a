"""kill -9 at random moments of training, and at every moment of a save."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "scripts" / "reliability" / "kill_test.py"


def test_a_run_killed_at_random_moments_ends_as_one_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "kills.json"
    command = [sys.executable, str(SCRIPT), "--kills", "30", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["kills"] == 30
    assert found["kills_during_a_save"] >= 5
    assert found["runs"] >= 2


def test_a_rank_killed_at_a_random_moment_ends_all_and_costs_nothing(tmp_path: Path) -> None:
    out = tmp_path / "kills.json"
    command = [sys.executable, str(SCRIPT.with_name("kill_rank.py")), "--kills", "1", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(out.read_text())["kills"] == 1


SAVES = """
import os, signal, sys
from pathlib import Path
import torch
from fixlm.runs import checkpoint

root, FILE_CALLS = Path(sys.argv[1]), set(sys.argv[2].split())

def save(step):
    tensors = {"a": torch.full((1000,), float(step))}
    checkpoint.save(root, step, tensors, tensors, {"step": step}, best=True)

def whole():
    found = []
    for path in root.glob("step-*"):
        try:
            found.append(checkpoint.verify(path).state()["step"])
        except checkpoint.InputError:
            pass
    return sorted(found)

save(1)
save(2)
kills, step, died = 0, 3, True
while died:
    child = os.fork()
    if not child:
        calls = 0
        def count(frame, event, function):
            global calls
            calls += event.startswith("c_") and function.__name__ in FILE_CALLS
            if calls > kills:
                os.kill(os.getpid(), signal.SIGKILL)
        sys.setprofile(count)
        save(3)
        os._exit(0)
    died = os.waitpid(child, 0)[1] != 0
    kills += died
    assert len(whole()) >= 2, (kills, whole())
    newest = checkpoint.newest(root)
    assert newest.state()["step"] in (2, 3), kills
    assert (newest.model()["a"] == newest.state()["step"]).all()
    assert not list(root.glob(".*")), kills
    assert checkpoint.find(root, "last").is_dir() and checkpoint.find(root, "best").is_dir()
    if died and newest.state()["step"] == 3:  # as it was before, for the next kill
        for path in root.glob("step-3"):
            checkpoint.remove(path)
        save(1), save(2)
print(kills)
"""


def test_a_save_killed_at_each_of_its_file_operations_costs_nothing(tmp_path: Path) -> None:
    names = "open write flush fsync close rename replace mkdir rmdir unlink symlink"
    command = [sys.executable, "-c", SAVES, str(tmp_path), names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 60  # kills
