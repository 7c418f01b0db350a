"""Perplexity: what `evaluate` prints, `result.json` holds and an independent program computes is one figure."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from fixlm import cli
from fixlm.config.read import read_config
from fixlm.corpus import corpus
from fixlm.evaluation import perplexity
from fixlm.runs.directory import RunDirectory
from fixlm.runs.load_model import load_model
from fixlm.runs.new_model import new_model

pytestmark = pytest.mark.slow  # most of these train a model


def trained(flags: list[str], run: Path, *more: str) -> Path:
    assert cli.main(["train", *flags, *more, "--run", str(run)]) == 0
    return run


def evaluate_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, float]:
    capsys.readouterr()
    assert cli.main(["evaluate", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def independent_perplexity(run: Path, text: Path) -> float:
    """What a stranger computes from the files with plain torch: no fixlm, one word at a time in float64."""
    words = (run / "vocabulary.txt").read_text().split("\n")[:-1]
    identity = {word: i for i, word in enumerate(words)}
    ids = [identity[w] for line in text.read_text().splitlines() for w in [*line.split(), "<eos>"]]
    saved = {name: t.double() for name, t in load_file(run / "checkpoints/best/model.safetensors").items()}
    lstm = torch.nn.LSTM(saved["lstm.weight_ih_l0"].shape[1], saved["lstm.weight_hh_l0"].shape[1], 2).double()
    lstm.load_state_dict({k.removeprefix("lstm."): v for k, v in saved.items() if k.startswith("lstm.")})
    state, total = None, 0.0
    with torch.no_grad():
        for here, target in itertools.pairwise(ids):
            x = saved["input_embedding.weight"][here].view(1, 1, -1)
            if "input_projection.weight" in saved:
                x = x @ saved["input_projection.weight"].T
            hidden, state = lstm(x, state)
            h = hidden.flatten()
            if "output.hidden_map.weight" in saved:
                h = F.gelu(saved["output.hidden_map.weight"] @ h + saved["output.hidden_map.bias"])
            if "output.projection.weight" in saved:
                h = saved["output.projection.weight"] @ h
            if "output.alpha" in saved:
                q = load_file(run / "output_matrix.safetensors")["vectors"].double()
                if "output.head" in saved:
                    q *= 8
                    q[saved["output.head_words"].long()] += saved["output.head"]
                scores = q @ (h / h.norm())
                if "output.tail_map.weight" in saved:
                    y = saved["output.tail_map.weight"] @ hidden.flatten()
                    short = 8 * F.normalize(q[:, : len(y)], dim=1) @ (y / y.norm())
                    short *= saved["output.tail_alpha"] / saved["output.alpha"]
                    short[saved["output.head_words"].long()] = scores[saved["output.head_words"].long()]
                    scores = short
                scores = scores * saved.get("output.scales", torch.tensor(1.0))
                logits = saved["output.alpha"] * scores + saved["output.bias"]
            else:
                weight = saved.get("output.weight", saved["input_embedding.weight"])
                logits = weight @ h + saved["output.bias"]
            if "output.cluster_rows" in saved:
                logits = two_steps(saved, logits, h / h.norm())
            total += F.cross_entropy(logits, torch.tensor(target)).item()
    return math.exp(total / (len(ids) - 1))


def two_steps(saved: dict[str, torch.Tensor], logits: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """log p of each word where those behind the head stand in clusters by frequency."""
    head, rest = saved["output.head_words"].long(), saved["output.tail_words"].long()
    clusters = len(saved["output.cluster_bias"])
    edges = [round(len(head) * (len(logits) / len(head)) ** (i / clusters)) for i in range(clusters + 1)]
    rows = saved["output.alpha"] * (saved["output.cluster_rows"] @ h) + saved["output.cluster_bias"]
    first = torch.cat([logits[head], rows]).log_softmax(0)
    found = torch.empty_like(logits)
    found[head] = first[: len(head)]
    for cluster, (start, stop) in enumerate(itertools.pairwise(edges)):
        words = rest[start - len(head) : stop - len(head)]
        found[words] = first[len(head) + cluster] + logits[words].log_softmax(0)
    return found


@pytest.mark.parametrize(
    "flags",
    [
        "--output-embed learned",
        "--output-embed tied",
        "--output-embed tied --embed-size 12",
        "--output-embed pmi --output-dim 8",
        "--output-embed pmi --output-dim 8 --output-map mlp --word-scales",
        "--output-embed pmi --output-dim 8 --learned-words 5",
        "--output-embed pmi --output-dim 8 --learned-words 5 --tail-dim 3",
        "--output-embed pmi --output-dim 8 --learned-words 5 --tail-dim 3 --tail-clusters 2 --cross-fit 3",
        "--output-embed pmi --output-dim 8 --input-start pmi --input-start-scale 4 --embed-size 8 --cross-fit 4",
        "--output-embed pmi --output-dim 8 --input-embed fixed --cross-fit 3 --learned-words 5",
        "--output-embed tied --input-start pmi --embed-size 8 --cross-fit 3",
        "--output-embed hadamard --output-map linear",
        "--output-embed hadamard",
        "--output-embed hadamard --output-dim 32 --input-embed fixed",
    ],
)
def test_evaluate_result_and_an_independent_program_agree(
    flags: str, small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(small, tmp_path / "run", *flags.split())
    result = json.loads((run / "result.json").read_text())
    for split in ("valid", "test"):
        scored = evaluate_json(capsys, str(run), "--split", split)
        assert set(scored) == {"split", "perplexity", "nll", "targets"}
        assert scored == {"split": split, **result[split]}
        assert scored["perplexity"] == pytest.approx(math.exp(scored["nll"]))
        independent = independent_perplexity(run, Path(small[1]) / f"{split}.txt")
        assert scored["perplexity"] == pytest.approx(independent, rel=1e-5)


def test_perplexity_does_not_depend_on_the_windows(tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = corpus.load(str(tiny_corpus))
    torch.manual_seed(1)
    flags = {"data": str(tiny_corpus), "output-embed": "hadamard", "hidden-size": "16", "embed-size": "16"}
    model, _ = new_model(read_config(flags), text)
    scores = []
    for window in (1, 7, 64, 10_000):
        monkeypatch.setattr(perplexity, "WINDOW", window)
        score = perplexity.evaluate(model, text, "valid")
        assert score.targets == len(text.splits["valid"]) - 1  # each token but the first, once
        scores.append(score.nll)
    assert scores == pytest.approx([scores[0]] * 4, rel=1e-6)
    assert model.training  # scoring leaves the mode as it was


def test_a_uniform_model_has_perplexity_v_and_the_unigram_one_exp_of_its_entropy(tiny_corpus: Path) -> None:
    text = corpus.load(str(tiny_corpus))
    flags = {"output-embed": "hadamard", "bias-start": "zero", "hidden-size": "16", "embed-size": "16"}
    model, _ = new_model(read_config(flags), text)
    with torch.no_grad():
        model.output.alpha.zero_()
    assert perplexity.evaluate(model, text, "test").perplexity == pytest.approx(len(text), rel=1e-6)
    with torch.no_grad():
        model.output.bias.copy_(torch.from_numpy(text.log_unigram()))
    unigram = perplexity.unigram_score(text, "test").perplexity
    assert perplexity.evaluate(model, text, "test").perplexity == pytest.approx(unigram, rel=1e-6)
    share = text.counts / text.counts.sum()
    expected = math.exp(-np.log(share[text.splits["test"][1:]]).mean())
    assert unigram == pytest.approx(expected)


def test_pieces_are_scored_per_word_of_the_text_too(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = "--tokenizer sentencepiece --vocab-size 280 --output-embed random-orthogonal"
    run = trained(small, tmp_path / "run", *flags.split())
    assert "perplexity per word" in capsys.readouterr().out
    assert (run / "tokenizer.model").is_file()
    scored = evaluate_json(capsys, str(run))
    lines = (Path(small[1]) / "test.txt").read_text().splitlines()
    words = sum(len(line.split()) + 1 for line in lines)
    assert scored["words"] == words - 1  # the first is context only
    assert scored["targets"] > scored["words"]
    total = scored["nll"] * scored["targets"]
    assert scored["perplexity_per_word"] == pytest.approx(math.exp(total / (words - 1)))


def test_a_perplexity_that_overflows_is_inf_for_people_and_null_in_json() -> None:
    score = perplexity.Score(total_nats=1e6, targets=10)
    assert str(score) == "inf"
    assert score.to_json() == {"perplexity": None, "nll": 1e5, "targets": 10}


def test_without_json_one_line_says_what_was_scored(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(small, tmp_path / "run", "--output-embed", "tied")
    capsys.readouterr()
    assert cli.main(["evaluate", str(run), "--split", "valid", "--checkpoint", "last"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{run}: valid perplexity ")
    assert out.endswith(" targets\n")


def test_the_output_matrix_of_a_run_cannot_be_changed_unnoticed(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(small, tmp_path / "run", "--output-embed", "hadamard")
    file = run / "output_matrix.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert cli.main(["evaluate", str(run)]) == 2
    assert "output_matrix.safetensors: the vectors were changed since they were built" in capsys.readouterr().err


def test_another_corpus_is_refused(small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained(small, tmp_path / "run", "--output-embed", "tied")
    other = tmp_path / "other"
    other.mkdir()
    for split in ("train", "valid", "test"):
        (other / f"{split}.txt").write_text((Path(small[1]) / f"{split}.txt").read_text() + "the cat .\n")
    assert cli.main(["evaluate", str(run), "--data", str(other)]) == 2
    assert "fixlm: error: --data: not the corpus of this run (found " in capsys.readouterr().err


@pytest.mark.parametrize("input_embed", ["learned", "fixed", "same", "random-orthogonal"])
def test_a_loaded_model_is_the_trained_one_frozen_where_it_was(
    input_embed: str, small: list[str], tmp_path: Path
) -> None:
    run = trained(small, tmp_path / "run", "--output-embed", "hadamard", "--input-embed", input_embed)
    model = load_model(RunDirectory(run))
    assert model.input_embedding.weight.requires_grad == (input_embed in ("learned", "same"))
    counts = json.loads((run / "result.json").read_text())["parameters"]
    assert model.parameter_counts() == counts


def test_frequency_bands_split_the_test_perplexity(small: list[str], tmp_path: Path) -> None:
    run = trained(small, tmp_path / "run", "--output-embed", "hadamard")
    result = json.loads((run / "result.json").read_text())
    bands = result["test_by_frequency"]
    assert len(bands) >= 2
    assert sum(band["targets"] for band in bands) == result["test"]["targets"]
    assert sum(band["words"] for band in bands) == result["corpus"]["vocabulary_size"]
    total = sum(band["total_nats"] for band in bands)
    assert total / result["test"]["targets"] == pytest.approx(result["test"]["nll"], rel=1e-9)


def test_a_target_is_in_the_band_of_its_own_word(tiny_corpus: Path) -> None:
    text = corpus.load(str(tiny_corpus))
    targets = text.splits["valid"][1:]
    nats = text.counts[targets].astype(np.float32)  # each target "costs" how often its word was trained on
    for band in perplexity.by_frequency(nats, text, "valid"):
        assert band.lowest <= band.total_nats / band.targets <= (band.highest or math.inf)
        assert f"{band.lowest:,}" in band.name
