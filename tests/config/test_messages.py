"""Messages that no other test reads: where they come from, and what they say."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import embeddings
from embeddings import CorpusStatistics, InputError
from embeddings.methods import cooccurrence, hadamard
from embeddings.readers.read_vectors import read_vectors
from fixlm import cli
from fixlm.corpus.sentencepiece import Tokenizer

FOUND = Path(__file__).parents[1] / "attacks"


@pytest.mark.parametrize(
    ("raise_it", "message"),
    [
        (
            lambda: embeddings.build(
                "pmi", CorpusStatistics(["a", "b"], np.array([201, 1]), np.zeros(201, dtype=np.int32)), 1
            ),
            "pmi: no two words of this corpus go together more often than by chance. Fix: take a longer",
        ),
        (
            lambda: hadamard.GaloisField(21),
            "dim: too large for the Hadamard rule (found N = 2097152, expected at most 1048576).",
        ),
        (
            lambda: cooccurrence.count(np.zeros(9, dtype=np.int32), 2, weights="steep"),
            "weights: unknown distance weights (found steep, expected ",
        ),
        (
            lambda: cooccurrence.count(np.zeros(9, dtype=np.int32), 2, context="right"),
            "context: unknown context (found right, expected ",
        ),
        (
            lambda: Tokenizer((FOUND / "sentencepiece" / "piece-not-utf8").read_bytes()),
            "tokenizer: a piece of the sentencepiece model is not UTF-8 (found ",
        ),
        (lambda: hadamard.block_signs(9, 8), "dim: too many blocks for N = 8 (found 9, expected at most 8)."),
    ],
)
def test_builders_and_tokenizers(raise_it: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        raise_it()
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("v.safetensors", None, "no vectors in the tensor (found vectors [6, 0], expected rows of numbers)"),
        ("wide.txt", b"a " + b"0 " * (1 << 20) + b"0\n", "rows too long (found 1,048,577 numbers, expected at most"),
        ("v.txt", b"\n\n", "the file is empty (found nothing but white space, expected word vectors)"),
        (
            "v.txt.gz",
            gzip.compress(b"".join(b"w%d" % word + b" 0" * 9999 + b"\n" for word in range(300))),
            "unpacks to far more than vectors do (found more than",
        ),
    ],
)
def test_vectors(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes((FOUND / "safetensors" / "no-columns").read_bytes() if content is None else content)
    with pytest.raises(InputError) as caught:
        read_vectors(path, {f"w{word}": word for word in range(300)} | {"a": 300})
    assert message in str(caught.value)


@pytest.fixture(scope="module")
def run(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("messages") / "run"
    assert cli.main(["train", *small, "--output-embed", "random-orthogonal", "--run", str(path)]) == 0
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: [], "config.json: not the configuration of a run (found "),
        (
            lambda config: config | {"model": config["model"] | {"hidden_size": "many"}},
            "config.json: hidden_size: not of the right kind (found 'many', expected a whole number at least 1)",
        ),
        (
            lambda config: config | {"output_matrix": None},
            "config.json: names no output matrix for this output layer (found output_matrix null)",
        ),
    ],
)
def test_a_config_that_was_changed(
    change: Callable[[dict[str, object]], object], message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / "config.json").read_text()
    try:
        (run / "config.json").write_text(json.dumps(change(json.loads(before))))
        assert cli.main(["evaluate", str(run)]) == 2
    finally:
        (run / "config.json").write_text(before)
    assert message in capsys.readouterr().err


def test_a_checkpoint_that_is_not_there(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", str(run), "--checkpoint", "step-99"]) == 2
    message = r"run: has no checkpoint 'step-99' \(expected last, best, step-\d+.*\)\. Fix: train it first"
    assert re.search(message, capsys.readouterr().err)
