"""What ranks send each other is counted right, at a small size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "measure_ranks.py"
ROOT = SCRIPT.parents[1]
PAGE = (ROOT / "docs" / "several_processes.md").read_text(encoding="utf-8")
SMALL = "--vocabulary-size 300 --hidden-size 16 --walsh-families 16 --batch-size 4 --bptt 5 --rounds 1"


@pytest.mark.slow
def test_ranks_send_the_gradients_of_what_is_trained_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "ranks.json"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(SCRIPT)]
    command = [*torchrun, *SMALL.split(), "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {(row["layer"], row["frozen_input"]): row for row in json.loads(file.read_text())["rows"]}
    core, bias, embedding = 2 * (4 * 16 * 32 + 2 * 64), 300, 300 * 16
    assert rows["tied", False]["bytes_a_step"] == 4 * (core + bias + embedding)
    assert rows["pmi", True]["bytes_a_step"] == rows["hadamard", True]["bytes_a_step"] == 4 * (core + bias + 1)
    for row in rows.values():
        assert set(row["collectives"]) == {"all_reduce"}


@pytest.mark.slow
def test_one_process_is_refused() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is nothing to send" in done.stderr


def test_the_table_of_the_page_is_that_of_the_results() -> None:
    rows = json.loads((ROOT / "results" / "ranks" / "bytes.json").read_text())["rows"]
    tied = next(row["bytes_a_step"] for row in rows if row["layer"] == "tied")
    for row in rows:
        embedding = "frozen" if row["frozen_input"] else "trained"
        cells = f"{row['bytes_a_step']:,} | {tied / row['bytes_a_step']:.2f} | {row['step_time_to_tied']:.2f}"
        assert f"| `{row['layer']}` | {embedding} | {cells} |" in PAGE
        assert "broadcast" not in row["collectives"]
    kills = json.loads((ROOT / "results" / "reliability.json").read_text())["20 kills of a rank"]
    assert f"{kills['kills']} times, {kills['kills_of_rank_0']} of them rank 0" in " ".join(PAGE.split())
    assert f"had ended within {kills['longest_end_seconds']} seconds" in " ".join(PAGE.split())
