"""Arithmetic that must hold of whole runs: see also `test_evaluate`, where perplexity is computed independently."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import final, train
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

import embeddings
from embeddings.output_matrix import hash_vectors
from fixlm.config.read import read_config
from fixlm.corpus import corpus
from fixlm.corpus.corpus import Corpus
from fixlm.evaluation import perplexity
from fixlm.model.bfloat16 import multiplies_bfloat16
from fixlm.model.language_model import LanguageModel
from fixlm.runs.directory import RunDirectory
from fixlm.runs.load_model import load_model
from fixlm.runs.new_model import new_model

LAYERS = ("learned", "tied", "random-orthogonal", "hadamard", "sylvester", "word2vec", "pmi", "walsh")
MATRICES = LAYERS[2:-1]
STORED = tuple(layer for layer in MATRICES if layer != "hadamard")  # that layer reads no matrix
FLAGS: dict[str, list[str]] = {
    "word2vec": ["--output-dim", "8", "--word2vec-epochs", "1"],
    "walsh": ["--walsh-families", "16"],
    "learned": [],
    "tied": [],
}


def untrained(layer: str, data: Path, **more: str) -> tuple[LanguageModel, Corpus]:
    text = corpus.load(str(data))
    flags = {"data": str(data), "output-embed": layer, "hidden-size": "8", "embed-size": "8", **more}
    torch.manual_seed(1)
    return new_model(read_config(flags), text)[0], text


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS)
def test_however_the_stream_is_cut_every_target_counts_once(
    layer: str, tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same sum whatever the window is: the one of the stream read token by token with carried state."""
    model, text = untrained(layer, tiny_corpus)
    ids = torch.from_numpy(text.splits["valid"][:120]).long()
    state, by_hand = model.start_state(1), 0.0
    model.eval()
    with torch.no_grad():
        for here, target in itertools.pairwise(ids):
            hidden, state = model(here.view(1, 1), state)
            by_hand -= model.output.logits(hidden.view(1, -1)).double().log_softmax(1)[0, target].item()

    @settings(max_examples=12, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(window=st.integers(1, 200))
    def check(window: int) -> None:
        monkeypatch.setattr(perplexity, "WINDOW", window)
        assert torch.cat(list(perplexity._windows(model, ids.numpy()))).sum().item() == pytest.approx(by_hand, rel=1e-5)

    check()


@pytest.mark.parametrize("layer", LAYERS)
def test_a_model_without_features_has_the_perplexity_of_its_bias(layer: str, tiny_corpus: Path) -> None:
    """Uniform with a bias of zero: perplexity V. This holds of every layer, since the LSTM says nothing."""
    model, text = untrained(layer, tiny_corpus, **{"bias-start": "zero"})
    with torch.no_grad():
        for parameter in model.lstm.parameters():
            parameter.zero_()
    assert perplexity.evaluate(model, text, "test").perplexity == pytest.approx(len(text), rel=1e-6)


@pytest.mark.parametrize("layer", STORED)
def test_the_matrix_has_one_hash_before_and_after_training(layer: str, small: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    flags = ["--output-embed", layer, *FLAGS.get(layer, ["--output-dim", "8"])]
    assert train(*small, *flags, "--run", str(run)) == 0
    recorded = json.loads((run / "config.json").read_text())["output_matrix"]["sha256"]
    assert hash_vectors(load_file(run / "output_matrix.safetensors")["vectors"].numpy()) == recorded
    assert hash_vectors(load_model(RunDirectory(run)).output.vectors.numpy()) == recorded
    held = load_file(run / "checkpoints/last/training.safetensors")
    assert not [name for name in held if "vectors" in name]
    assert not [name for name, tensor in held.items() if tuple(tensor.shape) == (12, 8)]  # (V, N)


@pytest.mark.parametrize("layer", MATRICES)
def test_the_same_seed_gives_the_same_file_and_another_one_another(
    layer: str, tiny_corpus: Path, tmp_path: Path
) -> None:
    statistics = corpus.load(str(tiny_corpus)).statistics()
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        embeddings.build(layer, statistics, 8, seed).save(tmp_path / name)
    files = {name: (tmp_path / name).read_bytes() for name in "abc"}
    assert files["a"] == files["b"]
    drawn = layer in ("random-orthogonal", "word2vec")  # the others' vectors do not depend on it
    vectors = [load_file(tmp_path / name)["vectors"].numpy() for name in "ac"]
    assert np.array_equal(*vectors) != drawn


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS)
def test_the_same_seed_gives_the_same_short_run(layer: str, small: list[str], tmp_path: Path) -> None:
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        flags = [*small, "--output-embed", layer, *FLAGS.get(layer, ["--output-dim", "8"]), "--seed", seed]
        assert train(*flags, "--run", str(tmp_path / name)) == 0
    files = ["checkpoints/last/model.safetensors", "checkpoints/last/training.safetensors", "vocabulary.txt"]
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    results = [json.loads((tmp_path / name / "result.json").read_text())["test"] for name in "abc"]
    assert results[0] == results[1] != results[2]


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS)
def test_bfloat16_products_give_nearly_the_run_of_float32(layer: str, small: list[str], tmp_path: Path) -> None:
    """Perplexity within 2 %: bfloat16 keeps 8 bits, so that a logit of 16 is off by up to 0.03."""
    results = {}
    for precision in ("float32", "bfloat16"):
        flags = [*small, "--output-embed", layer, *FLAGS.get(layer, ["--output-dim", "8"])]
        flags += ["--precision", precision]
        run = tmp_path / precision
        assert train(*flags, "--run", str(run)) == 0
        results[precision] = json.loads((run / "result.json").read_text())["test"]["perplexity"]
        assert all(t.dtype == torch.float32 for t in final(run).values() if t.is_floating_point())
    assert results["bfloat16"] == pytest.approx(results["float32"], rel=0.02)
    # The hadamard layer has no matrix product to round, and the LSTM is rounded only where the processor does it.
    rounded = layer != "hadamard" or multiplies_bfloat16()
    assert (results["bfloat16"] != results["float32"]) == rounded
