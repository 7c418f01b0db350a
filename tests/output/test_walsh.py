"""The walsh layer: its codes, its families, and the layer against dense products with the codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import embeddings
from embeddings import CorpusStatistics, InputError
from embeddings.builder import prepare
from embeddings.codebook import Codebook
from embeddings.methods import pmi, walsh
from fixlm import cli, output
from fixlm.config.read import read_config
from fixlm.config.train_config import TrainConfig
from fixlm.corpus import corpus
from fixlm.evaluation.perplexity import evaluate
from fixlm.model.embedding import input_embedding
from fixlm.model.language_model import LanguageModel
from fixlm.output.kernels.block_hadamard import sylvester
from fixlm.output.walsh import WalshOutput
from fixlm.runs.directory import RunDirectory
from fixlm.runs.load_model import load_model, read_matrix

V, M = 100, 16


def text() -> CorpusStatistics:
    """Four kinds of words; a line is made of one kind. Word w is of kind w % 4 and the rarer the larger w is."""
    draw = np.random.default_rng(3)
    weights = 1 / np.arange(1, V // 4 + 1)
    kinds = draw.integers(0, 4, 3000)
    lines = [4 * draw.choice(V // 4, 8, p=weights / weights.sum()) + kind for kind in kinds]
    ids = np.concatenate([*lines, np.arange(V)]).astype(np.int32)
    counts = np.bincount(ids, minlength=V)
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(V, dtype=np.int32)
    rank[order] = np.arange(V)
    return CorpusStatistics([f"{word % 4}-{word}" for word in order], counts[order], rank[ids])


def slots(**options: object) -> np.ndarray:
    chosen = walsh.Options(families=M, pmi_dim=8, **options)  # type: ignore[arg-type]
    return walsh.slots(text(), 1, chosen, lambda *_: None)


@pytest.mark.parametrize("positions", ["pmi", "frequency", "random"])
def test_every_word_has_a_slot_of_its_own_in_as_few_blocks_as_can_be(positions: str) -> None:
    found = slots(positions=positions)
    assert len(set(found.tolist())) == V
    assert found.min() >= 0
    assert found.max() < -(-V // M) * M


def test_the_most_frequent_words_head_the_families() -> None:
    np.testing.assert_array_equal(slots()[:M], np.arange(M))


def test_families_hold_words_of_one_kind() -> None:
    """With kinds as the only structure of the text, most words join a head of their own kind."""
    kind = np.array([int(word[0]) for word in text().words])

    def agreement(found: np.ndarray) -> float:
        return float(np.mean(kind[M:] == kind[:M][found[M:] % M]))

    assert agreement(slots()) > 0.6
    assert agreement(slots(positions="frequency")) < 0.5


def test_by_frequency_the_rank_is_the_slot() -> None:
    np.testing.assert_array_equal(slots(positions="frequency"), np.arange(V))


def test_at_random_the_seed_decides() -> None:
    options = walsh.Options(families=M, positions="random")
    one, again, other = (walsh.slots(text(), seed, options, lambda *_: None) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@pytest.mark.parametrize("size", [None, 9, 16])
def test_the_nearest_family_with_room_is_joined(size: int | None) -> None:
    """The slow rule, word by word."""
    directions = walsh._directions(text(), 1, walsh.Options(families=M, pmi_dim=8), lambda *_: None)
    members = [1] * M
    found = slots(family_size=size)
    for word in range(M, V):
        similarity = directions[:M] @ directions[word]
        nearest = max((p for p in range(M) if members[p] < (size or -(-V // M))), key=lambda p: similarity[p])
        assert found[word] == members[nearest] * M + nearest
        members[nearest] += 1


def test_more_words_than_the_signs_reach_are_refused() -> None:
    words = 256 * M + 1
    statistics = CorpusStatistics([str(word) for word in range(words)], np.ones(words, dtype=np.int64))
    options = walsh.Options(families=M, positions="frequency")
    with pytest.raises(InputError, match=r"families: too few for 4,097 words \(found 16, expected at least 32\)"):
        walsh.slots(statistics, 1, options, lambda *_: None)


def test_an_option_that_is_not_given_leaves_the_recipe_of_the_slots_as_it_was() -> None:
    assert "family_size" not in walsh.used(walsh.Options())
    assert walsh.used(walsh.Options(family_size=30))["family_size"] == 30


FAR = torch.arange(V)
FAR[7] = (V + 1) * M


@pytest.mark.parametrize(
    ("slots", "found"),
    [(FAR, "100 from 0 to 1,616"), (torch.arange(V) % M, "100 from 0 to 15"), (torch.arange(V - 1), "99 from 0 to 98"),
     (torch.arange(V) - 1, "100 from -1 to 98")],
)  # fmt: skip
def test_slots_that_words_cannot_have_are_refused(slots: torch.Tensor, found: str) -> None:
    said = rf"slots: not those of 100 words in 16 families, no two words in one \(found {found}\)"
    with pytest.raises(InputError, match=said):
        output.build("walsh", 12, V, families=M, slots=slots)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"families": 24}, "families: not a power of two"), ({"halves": "share"}, "halves: unknown halves 'share'"),
     ({"basis": "family"}, "basis: unknown basis 'family'"),
     ({"head_words": torch.tensor([], dtype=torch.int64)}, "head_words: there is no word"),
     ({"head_words": torch.tensor([3, 3])}, "head_words: the ids are not those of different words")],
)  # fmt: skip
def test_arguments_of_the_layer_that_are_wrong_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        WalshOutput(12, V, **({"families": M} | wrong))


def test_the_vectors_that_form_families_may_be_discounted() -> None:
    found = walsh._directions(text(), 1, walsh.Options(families=M, pmi_dim=8, pmi_discount=2), lambda *_: None)
    options = pmi.Options(window=5, context="symmetric", centre=False, discount=2)
    expected = embeddings.build("pmi", text(), 8, options=options).vectors  # rows of norm 1
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_codes_are_two_halves_of_signs() -> None:
    vectors = embeddings.build("walsh", text(), None, options=walsh.Options(families=M, pmi_dim=8)).vectors
    assert vectors.shape == (V, 2 * M)
    signs = np.sign(vectors).astype(int)
    assert len(np.unique(signs, axis=0)) == V
    position = slots() % M
    same = signs[:, :M] @ signs[:, :M].T == M
    np.testing.assert_array_equal(same, position[:, None] == position)  # a family shares the first half
    own = np.unique(signs[:, M:], axis=0)
    assert len(own) == V  # the second tells any two words apart


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"families": 48}, r"families: not a possible number .*found 48, expected a power of two from 16"),
        ({"families": 8}, r"families: not a possible number .*found 8"),
        (
            {"families": 16, "family_size": 6},
            r"family_size: out of range \(found 6, expected 7 to 85 for 100 words in 16 families\). Fix: choose one",
        ),
        ({"families": 16, "family_size": 86}, r"family_size: out of range \(found 86"),
        ({"families": 16, "pmi_dim": 5000}, r"pmi_dim: too large for the PMI matrix of 100 words"),
        ({"families": 16, "pmi_dim": 8, "pmi_discount": -1}, r"pmi_discount: out of range"),
    ],
)
def test_impossible_options_are_named(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        walsh.slots(text(), 1, walsh.Options(**options), lambda *_: None)


def test_another_dimension_than_the_families_give_is_an_error() -> None:
    with pytest.raises(InputError, match=r"dim: a walsh code has another length \(found 40, expected 32\)"):
        embeddings.build("walsh", text(), 40, options=walsh.Options(families=M, pmi_dim=8))


def test_a_codebook_is_cached_and_a_damaged_one_is_made_anew(tmp_path: Path) -> None:
    options = walsh.Options(families=M, pmi_dim=8)
    built = prepare("walsh", text(), None, 1, options, lambda *_: None, directory=tmp_path)
    (path,) = tmp_path.iterdir()
    assert Codebook.load(path).recipe == built.recipe
    other = walsh.Options(families=M, pmi_dim=8, halves="own")  # another layer, the same slots
    again = prepare("walsh", text(), None, 1, other, lambda *_: None, directory=tmp_path)
    np.testing.assert_array_equal(again.slots, built.slots)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="the slots were changed since they were built"):
        Codebook.load(path)
    again = prepare("walsh", text(), None, 1, options, lambda *_: None, directory=tmp_path)
    np.testing.assert_array_equal(again.slots, built.slots)


@pytest.mark.parametrize("size", [None, 9])
@pytest.mark.parametrize("basis", ["families", "codes"])
@pytest.mark.parametrize("halves", ["both", "shared", "own"])
def test_the_layer_is_a_product_with_the_codes(halves: str, basis: str, size: int | None) -> None:
    torch.manual_seed(1)
    layer = output.build(
        "walsh",
        12,
        V,
        families=M,
        slots=torch.from_numpy(slots(family_size=size)),
        halves=halves,
        basis=basis,
        log_unigram=torch.rand(V),
    ).double()
    with torch.no_grad():
        layer.gain.fill_(1.5)
    hidden = torch.randn(9, 12, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, V, (9,))
    rows = layer.weight
    if basis == "families":
        hadamard = sylvester(M).double() / M
        rows = torch.cat([hadamard @ half for half in rows.split(M)])
    dense = layer.gain * hidden @ rows.t() @ layer.codes().t() + layer.bias
    torch.testing.assert_close(layer.logits(hidden), dense)
    expected = F.cross_entropy(dense, targets)
    torch.testing.assert_close(layer.loss(hidden, targets), expected)
    trained = [hidden, *layer.parameters()]
    for ours, right in zip(
        torch.autograd.grad(layer.loss(hidden, targets), trained), torch.autograd.grad(expected, trained), strict=True
    ):
        torch.testing.assert_close(ours, right)


def test_in_the_basis_of_families_a_row_moves_the_words_of_one_family_alike() -> None:
    layer = output.build("walsh", 12, V, families=M, slots=torch.from_numpy(slots()), halves="shared")
    hidden = torch.randn(1, 12)
    before = layer.logits(hidden)
    with torch.no_grad():
        layer.weight[3] += 1
    moved = (layer.logits(hidden) - before)[0].detach()
    family = layer.slots % M == 3
    torch.testing.assert_close(moved[family], hidden.sum().expand(int(family.sum())))
    torch.testing.assert_close(moved[~family], torch.zeros(V - int(family.sum())), atol=1e-5, rtol=0)


@pytest.mark.parametrize("basis", ["families", "codes"])
@pytest.mark.parametrize("halves", ["both", "shared"])
def test_a_family_can_start_at_the_vector_of_its_head(basis: str, halves: str) -> None:
    found = torch.from_numpy(slots())
    layer = output.build("walsh", 12, V, families=M, slots=found, halves=halves, basis=basis)
    vectors, hidden = torch.randn(V, 12), torch.randn(5, 12)
    layer.start_at(vectors)
    head_at = torch.empty(M, dtype=torch.long)
    head_at[found[found < M]] = torch.nonzero(found < M)[:, 0]
    torch.testing.assert_close(layer.logits(hidden), hidden @ vectors[head_at[found % M]].t())


def test_a_run_from_before_the_choice_of_a_basis_was_trained_in_that_of_the_codes() -> None:
    values = read_config({"output-embed": "walsh"}).to_json()
    assert TrainConfig.from_json(values).output.walsh_basis == "families"
    del values["model"]["walsh_basis"]
    assert TrainConfig.from_json(values).output.walsh_basis == "codes"


def test_a_run_from_before_families_had_a_size_has_none() -> None:
    values = read_config({"output-embed": "walsh"}).to_json()
    del values["matrices"]["walsh"]["family_size"]
    assert TrainConfig.from_json(values).matrix_options("walsh").family_size is None


def test_the_projection_and_not_the_codes_is_what_is_trained() -> None:
    layer = output.build("walsh", 12, V, families=M)
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {
        "bias": (V,),
        "weight": (2 * M, 12),
        "gain": (),
    }
    assert set(layer.state_dict()) == {"bias", "weight", "gain", "slots"}
    in_a_run = output.build("walsh", 12, V, families=M, in_state_dict=False)
    assert set(in_a_run.state_dict()) == {"bias", "weight", "gain"}


@pytest.mark.parametrize("input_embed", ["learned", "same", "fixed"])
def test_a_run_trains_is_stored_and_loads(small: list[str], tmp_path: Path, input_embed: str) -> None:
    run = RunDirectory(tmp_path / "run")
    flags = ["--output-embed", "walsh", "--walsh-families", "16", "--walsh-pmi-dim", "4"]
    flags += ["--input-embed", input_embed, "--embed-size", "6", "--run", str(run.path)]
    flags += ["--lr", "0.03", "--max-steps", "60"]
    assert cli.main(["train", *small, *flags]) == 0
    result = json.loads(run.result.read_text())
    assert result["valid"]["perplexity"] < 0.8 * result["unigram"]["valid"]["perplexity"]
    codebook = read_matrix(run)
    assert isinstance(codebook, Codebook)
    model = load_model(run)
    np.testing.assert_array_equal(model.output.slots.numpy(), codebook.slots)
    frozen = not model.input_embedding.weight.requires_grad
    assert frozen == (input_embed == "fixed")
    assert ("pmi" in json.loads(run.config.read_text())["matrices"]) == (input_embed != "learned")


def test_tied_walsh_reads_the_sum_of_a_word_and_its_family() -> None:
    layer = output.build("walsh", 12, V, families=M, slots=torch.from_numpy(slots()), tied=True)
    model = LanguageModel(input_embedding(V, 12), 12, layer).eval()
    ids, start = torch.arange(V)[None], model.start_state(V)
    tied = model.hidden(ids, start)[0]
    rows = model.input_embedding.weight + layer.weight[:M][layer.slots % M]
    torch.testing.assert_close(tied, model.lstm(rows[None], start)[0])
    tied.sum().backward()
    families = layer.weight.grad.abs().sum(1)  # type: ignore[union-attr]
    assert (families[:M] > 0).all()
    assert (families[M:] == 0).all()


def test_a_tied_run_trains_and_is_scored_the_same_from_its_files(small: list[str], tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    flags = ["--output-embed", "walsh", "--walsh-families", "16", "--walsh-pmi-dim", "4", "--walsh-tied"]
    assert cli.main(["train", *small, *flags, "--run", str(run.path), "--lr", "0.03"]) == 0
    model = load_model(run)
    assert model.output.tied
    config = TrainConfig.from_json(run.read_config())
    text = corpus.load(**vars(config.data))
    stored = json.loads(run.result.read_text())["valid"]["perplexity"]
    assert evaluate(model, text, "valid").perplexity == pytest.approx(stored)
    model.output.tied = False
    assert evaluate(model, text, "valid").perplexity != pytest.approx(stored)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--walsh-basis", "codes"], "--walsh-basis: --walsh-tied reads"),
        (["--walsh-halves", "own"], "--walsh-halves: --walsh-tied reads"),
        (["--embed-size", "6"], "which needs --embed-size 16 (found 6)"),
    ],
)
def test_what_cannot_be_tied_is_said(
    small: list[str], capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert cli.main(["train", *small, "--output-embed", "walsh", "--walsh-tied", *flags]) == 2
    assert message in capsys.readouterr().err


def test_what_walsh_cannot_do_is_said(small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", *small, "--output-embed", "walsh", "--output-dim", "32"]) == 2
    assert "--output-dim: has no effect on this output layer (found --output-embed walsh)" in capsys.readouterr().err
    sized = ["--output-embed", "walsh", "--walsh-families", "16", "--walsh-family-size"]
    assert cli.main(["train", *small, *sized, "99", "--walsh-positions", "random", "--lr", "-1"]) == 2
    told = capsys.readouterr().err
    assert "--walsh-family-size: it is of families by PMI vectors (found --walsh-positions random)" in told
    assert "--lr" in told
    assert cli.main(["train", *small, *sized, "0"]) == 2
    assert "--walsh-family-size: out of range (found 0, expected a whole number at least 1" in capsys.readouterr().err
    assert cli.main(["train", *small, "--input-embed", "walsh"]) == 2
    assert "--input-embed: unknown input embedding 'walsh'" in capsys.readouterr().err
    assert cli.main(["train", *small, "--output-embed", "walsh", "--walsh-families", "20"]) == 2
    assert "--walsh-families: not a possible number of families (found 20" in capsys.readouterr().err
    assert cli.main(["train", *small, "--output-embed", "tied", "--walsh-basis", "codes"]) == 2
    assert "--walsh-basis: has no effect on this output layer (found --output-embed tied" in capsys.readouterr().err
