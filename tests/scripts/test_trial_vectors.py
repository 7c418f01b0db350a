"""The program that tries ways to make vectors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pages import ROOT
from pmi_reference import silent, zipf_text

sys.path.insert(0, str(ROOT / "scripts"))
import trial_vectors

TRIALS = json.loads((ROOT / "results/vectors/trials.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial["name"])
def test_the_flags_of_a_kept_row_are_those_of_its_trial(trial: dict) -> None:
    assert trial["flags"] == trial_vectors.flags(trial["name"])


def test_class_means_of_folds_are_those_of_the_rest_of_the_text() -> None:
    """A word that stands in one fold alone has the row 0 there, and the whole agrees with no folds at all."""
    text, options = zipf_text(40, 2000), trial_vectors.MeanOptions(base_dim=8)
    whole, folds = trial_vectors.class_means(text, 6, 1, options, np.array([0, 700, 2000]), silent)
    np.testing.assert_allclose(whole, trial_vectors.whole_means(text, 6, 1, options, silent), atol=1e-4)
    for found, own in zip(folds, (text.ids[1:700], text.ids[700:]), strict=True):
        missing = np.bincount(text.ids[1:], minlength=40) == np.bincount(own, minlength=40)
        np.testing.assert_allclose(found[missing], 0, atol=1e-4)
        assert np.abs(found[~missing] - whole[~missing]).max() > 1e-3


@pytest.mark.slow
def test_a_trial_is_trained_and_written(tmp_path: Path) -> None:
    program = [sys.executable, str(ROOT / "scripts/trial_vectors.py"), "cells of cca and of pmi side by side"]
    small = ["--data", "sample", "--hidden-size", "16", "--embed-size", "16", "--max-steps", "2", "--threads", "1"]
    done = subprocess.run([*program, "--json", "rows.json", *small], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert row["name"] == program[-1]
    assert 100 < row["valid"]["perplexity"] < 2000
