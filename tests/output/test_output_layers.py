"""The output layers against their equations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fixlm import output
from fixlm.errors import InputError
from fixlm.output.fixed import FixedOutput

V, H, TOKENS = 23, 8, 6
GENERAL = ("learned", "tied", "random-orthogonal", "hadamard", "sylvester", "walsh")


def layer(name: str, dim: int = H, **options: object) -> output.OutputLayer:  # type: ignore[name-defined]
    torch.manual_seed(1)
    embedding = nn.Embedding(V, dim)
    return output.build(name, H, V, output_dim=dim, input_embedding=embedding, **options).double()  # type: ignore[arg-type]


def tokens() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(TOKENS, H, generator=generator, dtype=torch.float64)
    return hidden, torch.randint(0, V, (TOKENS,), generator=generator)


@pytest.mark.parametrize("name", GENERAL)
@pytest.mark.parametrize("dim", [H, 16])
def test_loss_nll_and_logits_say_the_same(name: str, dim: int) -> None:
    built = layer(name, dim, log_unigram=torch.linspace(-3, 0, V))
    if name == "tied":
        built.shared.double()
    hidden, targets = tokens()
    expected = F.cross_entropy(built.logits(hidden), targets, reduction="none")
    torch.testing.assert_close(built.nll(hidden, targets), expected)
    torch.testing.assert_close(built.loss(hidden, targets), expected.mean())


@pytest.mark.parametrize("name", GENERAL)
@pytest.mark.parametrize("dim", [H, 16])
def test_gradients_reach_the_features_and_every_trained_number(name: str, dim: int) -> None:
    built = layer(name, dim)
    if name == "tied":
        built.shared.double()
    hidden, targets = tokens()
    assert torch.autograd.gradcheck(lambda x: built.loss(x, targets), hidden.requires_grad_())
    built.loss(hidden, targets).backward()
    for parameter_name, parameter in built.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def test_the_fixed_layer_is_the_papers_equation() -> None:
    hidden, _ = tokens()
    q = F.normalize(torch.randn(V, H, dtype=torch.float64), dim=1)
    built = FixedOutput(H, q, alpha_start=5.0, log_unigram=torch.linspace(-2, 0, V)).double()
    unit = hidden / hidden.norm(dim=1, keepdim=True)
    expected = 5.0 * unit @ q.t() + torch.linspace(-2, 0, V)
    torch.testing.assert_close(built.logits(hidden), expected)
    torch.testing.assert_close(built.logits(7 * hidden), expected)  # the norm of x does not matter


def test_without_normalisation_the_norm_of_the_features_counts() -> None:
    hidden, _ = tokens()
    built = layer("hadamard", normalize=False, alpha_start=2.0)
    torch.testing.assert_close(built.logits(hidden), 2.0 * hidden @ built.matrix().t())


@pytest.mark.parametrize("normalize", [True, False])
def test_a_learned_map_comes_before_the_matrix(normalize: bool) -> None:
    hidden, _ = tokens()
    for flags, features in (
        ({"map": "linear"}, lambda m, x: m.projection(x)),
        ({"map": "mlp", "map_size": 5}, lambda m, x: m.projection(F.gelu(m.hidden_map(x)))),
    ):
        built = layer("random-orthogonal", normalize=normalize, **flags)
        assert built.projection.weight.shape == (H, 5 if "map_size" in flags else H)
        mapped = features(built, hidden)
        mapped = F.normalize(mapped, dim=1) if normalize else mapped
        torch.testing.assert_close(built.logits(hidden), built.alpha * mapped @ built.vectors.t())


def test_the_perceptron_is_four_times_as_wide_as_what_it_reads_unless_told() -> None:
    assert layer("hadamard", map="mlp").hidden_map.weight.shape == (4 * H, H)


def test_learned_scales_of_the_rows() -> None:
    hidden, targets = tokens()
    built = layer("random-orthogonal", word_scales=True, alpha_start=2.0)
    with torch.no_grad():
        built.scales.copy_(torch.linspace(0.5, 2, V))
    expected = 2.0 * F.normalize(hidden, dim=1) @ (built.scales[:, None] * built.vectors).t()
    torch.testing.assert_close(built.logits(hidden), expected)
    built.loss(hidden, targets).backward()
    gradient = built.scales.grad.clone()
    built.scales.grad = None
    F.cross_entropy(built.logits(hidden), targets).backward()
    torch.testing.assert_close(gradient, built.scales.grad)


def test_features_of_zero_give_the_bias_and_a_finite_gradient() -> None:
    built = layer("hadamard", log_unigram=torch.linspace(-2, 0, V))
    hidden = torch.zeros(1, H, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(built.logits(hidden)[0], built.bias)
    built.loss(hidden, torch.tensor([0])).backward()
    assert hidden.grad is not None
    assert hidden.grad.isfinite().all()


def test_many_tokens_are_done_in_tiles_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    layer = output.build("hadamard", H, V).double()
    hidden, targets = torch.randn(50, H, dtype=torch.float64, requires_grad=True), torch.randint(0, V, (50,))
    trained = [hidden, *layer.parameters()]
    whole = layer.loss(hidden, targets)
    gradients = torch.autograd.grad(2 * whole, trained)
    monkeypatch.setattr("fixlm.output.kernels.tiles.TILE_BYTES", 16 * H * 8)  # 16 tokens
    tiled = layer.loss(hidden, targets)
    torch.testing.assert_close(tiled, whole)
    for ours, right in zip(torch.autograd.grad(2 * tiled, trained), gradients, strict=True):
        torch.testing.assert_close(ours, right)


def test_alpha_is_trained_unless_it_is_given() -> None:
    assert "alpha" in dict(layer("hadamard").named_parameters())
    held = layer("hadamard", alpha=0.1)
    assert "alpha" not in dict(held.named_parameters())
    assert held.state_dict()["alpha"].item() == pytest.approx(0.1)


def test_the_matrix_is_a_buffer_with_unit_rows_that_the_state_dict_has_unless_a_run_stores_it() -> None:
    built = layer("random-orthogonal")
    assert "vectors" in dict(built.named_buffers())
    assert "vectors" not in dict(built.named_parameters())
    assert "vectors" in built.state_dict()
    assert "vectors" not in layer("random-orthogonal", in_state_dict=False).state_dict()
    torch.testing.assert_close(built.vectors.norm(dim=1), torch.ones(V, dtype=torch.float64))


def test_tied_shares_the_very_weight_of_the_embedding_and_owns_none() -> None:
    embedding = nn.Embedding(V, H)
    tied = output.build("tied", H, V, input_embedding=embedding)
    assert tied.matrix() is embedding.weight
    assert list(tied.state_dict()) == ["bias"]


def test_building_a_fixed_layer_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    output.build("random-orthogonal", H, V)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_uniform_model_has_perplexity_v() -> None:
    built = layer("learned")
    with torch.no_grad():
        built.weight.zero_()
    hidden, targets = tokens()
    assert built.loss(hidden, targets).exp().item() == pytest.approx(V)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pmj",), "unknown output layer 'pmj'. Fix: Did you mean 'pmi'? Choose one of: "),
        (("tied",), "tied: no input embedding to share. Fix: pass input_embedding=nn.Embedding(…)"),
        (("pmi",), "pmi: is built from text. Fix: pass vectors=, (V, N), from embeddings.build"),
    ],
)
def test_a_layer_that_cannot_be_built_says_why(arguments: tuple[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        output.build(*arguments, hidden_size=H, vocabulary_size=V)
    assert message in str(caught.value)


def test_vectors_of_another_vocabulary_are_refused() -> None:
    with pytest.raises(InputError, match=r"another vocabulary \(found 3, expected 23\)"):
        output.build("pmi", H, V, vectors=torch.eye(3, H))


@pytest.mark.parametrize("name", GENERAL)
def test_any_leading_dimensions_will_do(name: str) -> None:
    built = layer(name)
    if name == "tied":
        built.shared.double()
    hidden, targets = tokens()
    flat = built.logits(hidden)
    for shape in ((TOKENS,), (2, 3), (1, 3, 2)):
        shaped = hidden.view(*shape, H)
        torch.testing.assert_close(built(shaped), flat.view(*shape, V))
        torch.testing.assert_close(built.loss(shaped, targets.view(shape)), built.loss(hidden, targets))
        torch.testing.assert_close(built.nll(shaped, targets.view(shape)), built.nll(hidden, targets).view(shape))
    torch.testing.assert_close(built(hidden[0]), flat[0])
    torch.testing.assert_close(built.loss(hidden, targets.int()), built.loss(hidden, targets))


@pytest.mark.parametrize("name", GENERAL)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x, t: (x[:, :-1], t), r"hidden: not the features that this layer reads \(found \[6, 7\]"),
        (lambda x, t: (x.long(), t), r"hidden: not the features .*\(found \[6, 8\] of torch.int64"),
        (lambda x, t: (x, t[:-1]), r"targets: a target for each hidden state is needed \(found \[5\], expected \[6\]"),
        (lambda x, t: (x, t.double()), r"targets: not the ids of words \(found torch.float64"),
        (lambda x, t: (x, t + V), r"targets: no such word \(found \d+, expected 0 to 22\)"),
        (lambda x, t: (x, t - V), r"targets: no such word \(found -\d+, expected 0 to 22\)"),
    ],
)
def test_what_does_not_fit_is_named_before_any_kernel_runs(name: str, wrong: Any, message: str) -> None:
    built = layer(name)
    for call in (built.loss, built.nll):
        with pytest.raises(InputError, match=message):
            call(*wrong(*tokens()))


@pytest.mark.parametrize("name", ["learned", "adaptive"])
def test_log_unigram_may_be_an_array_of_numpy(name: str) -> None:
    own = {"cutoffs": [4]} if name == "adaptive" else {}
    chances = np.log(np.arange(1, 21) / 210)
    layers = [output.build(name, 8, 20, log_unigram=each, **own) for each in (chances, torch.from_numpy(chances))]
    bias = "softmax.head.bias" if name == "adaptive" else "bias"
    found, expected = (layer.state_dict()[bias] for layer in layers)
    torch.testing.assert_close(found, expected)
    assert found.any()


def test_log_unigram_without_a_bias_is_refused() -> None:
    with pytest.raises(InputError, match=r"log_unigram: there is no bias to start at it"):
        output.build("hadamard", 8, 20, log_unigram=torch.zeros(20), bias=False)


@pytest.mark.parametrize(
    ("name", "options", "where"),
    [
        ("walsh", {"slots": "abc"}, "slots"),
        ("walsh", {"head_words": "abc"}, "head_words"),
        ("random-orthogonal", {"head_words": "abc"}, "head_words"),
        ("pmi", {"vectors": np.array([["a", "b"]] * 20)}, "vectors"),
    ],
)
def test_what_is_no_number_is_told_by_its_name(name: str, options: dict[str, Any], where: str) -> None:
    own = {"families": 16} if name == "walsh" else {}
    with pytest.raises(InputError, match=f"{where}: not numbers"):
        output.build(name, 8, 20, **own, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["learned", "random-orthogonal", "hadamard", "walsh"])
def test_what_is_not_a_number_does_not_vanish(name: str, dtype: torch.dtype) -> None:
    """Neither does that of one word in the loss of another."""
    built = layer(name).to(dtype)
    with torch.no_grad():
        built.bias[3] = torch.nan
    hidden = tokens()[0].to(dtype)
    targets = torch.full((len(hidden),), 5)
    assert built.loss(hidden, targets).isnan()
    assert built.nll(hidden, targets).isnan().all()
