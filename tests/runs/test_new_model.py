"""A model is built as the flags say, and what does not fit names the flag that decides."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fixlm import cli
from fixlm.config.read import read_config
from fixlm.corpus.corpus import load
from fixlm.runs.new_model import new_model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("--output-embed pmi --output-dim 5000", "--output-dim"),
        ("--output-embed pmi --hidden-size 5000", "--hidden-size"),
        ("--output-embed pmi --last-hidden-size 5000", "--last-hidden-size"),
        ("--output-embed hadamard --input-embed pmi --embed-size 5000", "--embed-size"),
        ("--output-embed tied --input-start pmi --embed-size 5000", "--embed-size"),
        ("--output-embed learned --output-start pmi --hidden-size 5000", "--hidden-size"),
    ],
)
def test_a_size_that_is_too_large_names_its_own_flag(
    flags: str, named: str, small: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["train", *small, "--run", str(tmp_path / "run"), *flags.split()]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert line.startswith(f"fixlm: error: {named}: too large for ")


def test_a_file_of_input_vectors_keeps_its_length_whatever_the_output_dimension(
    tiny_corpus: Path, tmp_path: Path
) -> None:
    text = load(str(tiny_corpus))
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("".join(f"{word} {i} 1 2\n" for i, word in enumerate(text.words)))
    given = {"output-embed": "hadamard", "output-dim": "8", "input-embed": str(vectors)}
    model, _ = new_model(read_config({**given, "hidden-size": "16", "embed-size": "6"}), text)
    assert model.input_embedding.weight.shape == (len(text), 3)
    assert model.input_projection.weight.shape == (6, 3)  # type: ignore[union-attr]
    assert model(torch.zeros(2, 1, dtype=torch.long), model.start_state(1))[0].shape == (2, 1, 16)


def test_a_longer_start_reaches_the_adaptive_softmax(tiny_corpus: Path) -> None:
    text = load(str(tiny_corpus))
    given = {"output-embed": "adaptive", "adaptive-cutoffs": "4,8", "adaptive-divisor": "2", "output-start": "pmi"}
    heads = []
    for scale in ("1", "4"):
        flags = {**given, "output-start-scale": scale, "hidden-size": "8", "embed-size": "8"}
        heads.append(new_model(read_config(flags), text)[0].output.softmax.head.weight)  # type: ignore[union-attr]
    torch.testing.assert_close(heads[1], 4 * heads[0])
