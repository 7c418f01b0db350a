"""What the notebook shows of a run is what the run says: positions, matrices, neighbours, escaped text."""

from __future__ import annotations

import html
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import train

from fixlm.errors import InputError
from fixlm.evaluation import analysis, perplexity
from fixlm.evaluation.run import Run, load
from fixlm.training.fit import train_unless_there

pytestmark = pytest.mark.slow  # most of these train a model

LAYERS = {
    "tied": "--output-embed tied",
    "learned": "--output-embed learned",
    "pmi": "--output-embed pmi --output-dim 8",
    "hadamard": "--output-embed hadamard",
    "walsh": "--output-embed walsh --walsh-families 16",
    "pieces": "--output-embed random-orthogonal --tokenizer sentencepiece --vocab-size 280",
}


@pytest.fixture(scope="module")
def runs(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("runs")
    for name, flags in LAYERS.items():
        assert train(*small, *flags.split(), "--run", str(folder / name)) == 0
    return {name: load(folder / name) for name in LAYERS}


def test_a_path_without_a_run_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^\S*nothing: there is no such run directory\. Fix: "):
        load(tmp_path / "nothing")
    with pytest.raises(InputError, match="not a run directory"):
        load(tmp_path)


def test_results_without_a_checkpoint_are_no_run_to_open(runs: dict[str, Run], tmp_path: Path) -> None:
    shutil.copytree(runs["tied"].directory.path, tmp_path / "run", symlinks=True)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(InputError, match="has no checkpoint 'best'"):
        load(tmp_path / "run")


@pytest.mark.parametrize("layer", LAYERS)
def test_the_output_matrix_and_its_features_give_the_logits(layer: str, runs: dict[str, Run]) -> None:
    run = runs[layer]
    matrix = analysis.output_matrix(run)
    assert matrix.shape[0] == len(run.corpus)
    assert matrix.dtype == np.float32
    hidden = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = run.model.output.features(hidden) if layer != "walsh" else hidden
        logits = features @ torch.from_numpy(matrix).T + run.model.output.bias
        torch.testing.assert_close(logits, run.model.output.logits(hidden), rtol=1e-4, atol=1e-4)


def test_the_curve_along_the_text_is_the_perplexity_of_each_stretch() -> None:
    nats = np.random.default_rng(1).exponential(5, 537).astype(np.float32)
    middle, found = analysis.along_the_text(nats, window=100)
    assert middle[0] == 50
    for position, value in zip(middle, found, strict=True):
        start = int(position - 50)
        assert value == pytest.approx(math.exp(nats[start : start + 100].astype(float).mean()))
    assert middle[-1] + 50 <= len(nats) < middle[-1] + 50 + 10
    middle, found = analysis.along_the_text(nats, window=10_000)  # a text shorter than the window
    assert found.tolist() == [pytest.approx(math.exp(nats.astype(float).mean()))]


def shown(passage: str) -> list[tuple[str, str, str]]:
    """Colour, title and text of each word."""
    return re.findall(r'<span style="background:rgb\((.*?)\);.*?title="(.*?)">(.*?)</span>', passage)


def test_a_passage_shows_each_target_with_its_own_surprisal(runs: dict[str, Run]) -> None:
    run = runs["tied"]
    nats = perplexity.target_nats(run.model, run.corpus, "valid")
    words = shown(analysis.passage_html(run, "valid", nats, start=30, length=40))
    targets = run.corpus.splits["valid"][31:71]
    assert len(words) == 40
    for (_, title, text), target, surprisal in zip(words, targets, nats[30:70], strict=True):
        word = run.corpus.words[target]
        assert html.unescape(text) == ("¶" if word == "<eos>" else word)
        assert html.unescape(title).startswith(f"{word}: {surprisal:.2f} nats, probability ")
        assert html.unescape(title).endswith(f"{run.corpus.counts[target]:,} times in train")


def test_white_is_certain_and_red_is_a_uniform_guess(runs: dict[str, Run]) -> None:
    run = runs["tied"]
    nats = np.zeros(len(run.corpus.splits["valid"]) - 1, dtype=np.float32)
    nats[1], nats[2] = math.log(len(run.corpus)), 1e9
    colours = [colour for colour, _, _ in shown(analysis.passage_html(run, "valid", nats, length=3))]
    assert colours == ["255,255,255", "227,74,51", "227,74,51"]


def test_markup_in_a_text_stays_text(tmp_path: Path) -> None:
    nasty = '<script>alert("1")</script> & \'"> <b>'
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text(f"{nasty}\n" * 30)
    flags = "--output-embed tied --hidden-size 4 --embed-size 4 --batch-size 2 --bptt 5 --max-steps 1 --threads 1"
    assert train("--data", str(tmp_path), *flags.split(), "--run", str(tmp_path / "run")) == 0
    run = load(tmp_path / "run")
    passage = analysis.passage_html(run, "test", perplexity.target_nats(run.model, run.corpus, "test"))
    tags = set(re.findall(r"</?(\w+)", passage))
    assert tags == {"p", "span", "br"}
    assert html.escape('<script>alert("1")</script>') in passage
    assert html.escape("'\">") in passage


def test_pieces_are_joined_to_words(runs: dict[str, Run], tiny_corpus: Path) -> None:
    run = runs["pieces"]
    nats = perplexity.target_nats(run.model, run.corpus, "valid")
    passage = analysis.passage_html(run, "valid", nats, length=10_000)
    text = html.unescape(re.sub(r"<[^>]*>", "", passage.replace("<br>", "\n")))
    original = (tiny_corpus / "valid.txt").read_text().splitlines()
    # The first piece of all is context only.
    assert [line.split() for line in text.replace("¶", "").splitlines()][1:] == [line.split() for line in original][1:]


def test_a_passage_that_is_not_there_is_refused(runs: dict[str, Run]) -> None:
    run = runs["tied"]
    nats = perplexity.target_nats(run.model, run.corpus, "valid")
    with pytest.raises(InputError, match=rf"start: no such target \(found {len(nats)}, "):
        analysis.passage_html(run, "valid", nats, start=len(nats))
    with pytest.raises(InputError, match="nats: not of the test split"):
        analysis.passage_html(run, "test", nats)


def test_nearest_words_are_by_cosine_and_without_the_word_itself(runs: dict[str, Run]) -> None:
    run = runs["tied"]
    matrix = analysis.output_matrix(run)
    found = analysis.nearest_words(run, matrix, "cat", 3)
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    cosines = dict(zip(run.corpus.words, unit @ unit[run.corpus.words.index("cat")], strict=True))
    del cosines["cat"]
    assert [word for word, _ in found] == sorted(cosines, key=cosines.__getitem__, reverse=True)[:3]
    assert [cosine for _, cosine in found] == pytest.approx(sorted(cosines.values(), reverse=True)[:3])
    expected = r"word: not in the vocabulary of the run \(found 'catt'\)\. Fix: Did you mean 'cat'\?"
    with pytest.raises(InputError, match=expected):
        analysis.nearest_words(run, matrix, "catt")


def test_of_pieces_a_word_is_the_piece_that_begins_it(runs: dict[str, Run]) -> None:
    run = load(runs["pieces"].directory.path)
    run.vocabulary[:] = ["he", "▁the", "▁he", "<eos>"]
    assert [analysis.word_id(run, word) for word in ("the", "▁he", "he")] == [1, 2, 0]


def test_a_family_shares_the_first_half_of_its_code(tmp_path: Path, runs: dict[str, Run]) -> None:
    lines = "\n".join(" ".join(f"w{(i * k) % 40}" for k in range(1, 9)) for i in range(200))
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text(lines + "\n")
    flags = "--output-embed walsh --walsh-families 16 --hidden-size 4 --embed-size 4 --batch-size 2 --bptt 5"
    flags += " --max-steps 1 --threads 1"
    assert train("--data", str(tmp_path), *flags.split(), "--run", str(tmp_path / "run")) == 0
    run = load(tmp_path / "run")
    shared = run.model.output.codes()[:, :16]
    families = {tuple(analysis.family_of(run, word)) for word in run.corpus.words}
    assert sorted(word for family in families for word in family) == sorted(run.corpus.words)
    for family in families:
        ids = [run.corpus.words.index(word) for word in family]
        assert (shared[ids] == shared[ids[0]]).all()
        assert ids[0] < 16  # the head is one of the 16 most frequent
    with pytest.raises(InputError, match=r"only walsh has families \(found TiedOutput\)"):
        analysis.family_of(runs["tied"], "cat")


def test_the_plane_keeps_distances_where_there_are_only_two_directions() -> None:
    angles = np.linspace(0, 2, 9)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(7, 7)))[0][:2]
    points, share = analysis.plane(3 * circle @ turn)  # the length of a row is not shown
    assert share == pytest.approx(1)
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.testing.assert_allclose(distances, np.linalg.norm(circle[:, None] - circle[None], axis=-1), atol=1e-6)
    assert (points[np.abs(points).argmax(0), [0, 1]] > 0).all()


@pytest.mark.parametrize("vectors", [np.ones((1, 4)), np.ones((3, 1)), np.zeros((5, 3))])
def test_a_plane_of_next_to_nothing_is_finite(vectors: np.ndarray) -> None:
    points, share = analysis.plane(vectors)
    assert points.shape == (len(vectors), 2)
    assert np.isfinite(points).all()
    assert 0 <= share <= 1


def test_the_learning_curve_is_flat_and_ends_with_the_score(runs: dict[str, Run]) -> None:
    for name in ("pmi", "pieces"):
        records = analysis.learning_curve(runs[name])
        assert all(not isinstance(value, dict) for record in records for value in record.values())
        assert any("alpha" in record for record in records)
        valid = runs[name].directory.read_result()["valid"]
        assert records[-1]["validation"] == valid.get("perplexity_per_word", valid["perplexity"])


def test_side_by_side_stand_parameters_and_perplexities_per_word(runs: dict[str, Run], tmp_path: Path) -> None:
    table = analysis.side_by_side(runs["hadamard"], runs["pieces"])
    assert list(table) == ["hadamard", "pieces"]
    assert table["hadamard"].keys() == table["pieces"].keys()
    result = runs["hadamard"].directory.read_result()
    assert table["hadamard"]["… in the output layer"] == f"{result['parameters']['output_trainable']:,}"
    assert table["hadamard"]["test perplexity"] == result["test"]["perplexity"]
    result = runs["pieces"].directory.read_result()
    assert table["pieces"]["test perplexity"] == result["test"]["perplexity_per_word"]
    shutil.copytree(runs["hadamard"].directory.path, tmp_path / "hadamard", symlinks=True)
    (tmp_path / "hadamard" / "result.json").unlink()  # as of a run that was stopped
    stopped = load(tmp_path / "hadamard")
    table = analysis.side_by_side(runs["hadamard"], stopped)
    assert len(table) == 2
    assert table[str(tmp_path / "hadamard")]["test perplexity"] is None


def test_a_run_is_trained_once(tiny_corpus: Path, tmp_path: Path) -> None:
    flags = {"data": str(tiny_corpus), "output-embed": "tied", "hidden-size": 8, "embed-size": 8}
    flags |= {"batch-size": 4, "bptt": 10, "max-steps": 2, "threads": 1}
    run = tmp_path / "run"
    assert train_unless_there(run, flags) == str(run)
    before = (run / "result.json").stat().st_mtime_ns
    train_unless_there(run, flags)
    assert (run / "result.json").stat().st_mtime_ns == before
    (run / "result.json").unlink()  # as if it had been stopped while scoring
    train_unless_there(run, flags)
    assert load(run).directory.read_result() is not None


@pytest.mark.parametrize("layer", ["walsh --walsh-families 16 --walsh-pmi-dim 4", "pmi --output-dim 8", "tied"])
def test_a_last_layer_of_another_size_is_no_trouble(layer: str, small: list[str], tmp_path: Path) -> None:
    flags = f"--output-embed {layer} --last-hidden-size 12 --run {tmp_path / 'run'}"
    assert train(*small, *flags.split()) == 0
    run = load(tmp_path / "run")
    matrix = analysis.output_matrix(run)
    assert matrix.shape == (len(run.corpus), {"walsh": 12, "pmi": 8, "tied": 16}[layer.split()[0]])
    assert len(analysis.nearest_words(run, matrix, "cat", 3)) == 3
