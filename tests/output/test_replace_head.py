"""`replace_head` on networks that are not ours, among them a GPT-2 of `transformers` with random weights."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fixlm.errors import InputError
from fixlm.output.fixed import FixedOutput
from fixlm.output.hadamard import HadamardOutput
from fixlm.output.replace_head import replace_head

H, V = 16, 40


class Network(nn.Module):
    """Two linear layers in a trunk and a head behind it, defined last but not called ``head``."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.trunk = nn.ModuleDict({"wide": nn.Linear(8, 100), "narrow": nn.Linear(100, H)})
        self.classify = nn.Linear(H, V, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.trunk["narrow"](self.trunk["wide"](x).relu()))
        return logits


@pytest.mark.parametrize("name", [None, "classify", "same"])
def test_a_head_with_two_names_is_exchanged_under_both(name: str | None) -> None:
    network = Network()
    network.same = network.classify
    replace_head(network, "hadamard", name=name)
    assert isinstance(network.classify, HadamardOutput)
    assert network.same is network.classify


def test_the_last_linear_layer_is_exchanged_and_its_bias_kept() -> None:
    network = Network().double().eval()
    bias = network.classify.bias.detach().clone()
    replaced = replace_head(network, "hadamard")
    assert isinstance(network.classify, HadamardOutput)
    assert replaced.name == "classify"
    assert replaced.head is network.classify
    torch.testing.assert_close(network.classify.bias, nn.Parameter(bias), rtol=1e-6, atol=1e-6)
    assert not network.classify.training
    assert network(torch.randn(2, 3, 8, dtype=torch.float64)).shape == (2, 3, V)


def test_it_says_how_many_trained_numbers_went() -> None:
    replaced = replace_head(Network(), "hadamard")
    assert replaced.before - replaced.after == V * H - 1  # α came, the bias stayed
    assert f"{V * H - 1} fewer trained parameters, {replaced.after:,} in the network" in str(replaced)


def test_a_learned_head_computes_what_the_old_one_did() -> None:
    network, x = Network(), torch.randn(5, 8)
    before = network(x)
    replace_head(network, "learned")
    torch.testing.assert_close(network(x), before)


def test_a_head_without_bias_gets_none() -> None:
    network = Network(bias=False)
    replace_head(network, "random-orthogonal")
    assert "bias" not in dict(network.classify.named_parameters())


@pytest.mark.parametrize("layer", ["learned", "sylvester", "random-orthogonal", "walsh"])
def test_every_layer_that_needs_no_text_can_be_named(layer: str) -> None:
    network = Network()
    replace_head(network, layer)
    F.cross_entropy(network(torch.randn(5, 8)), torch.arange(5)).backward()


def test_vectors_find_the_layer_with_as_many_outputs() -> None:
    network = Network()
    network.add_module("auxiliary", nn.Linear(H, 3))
    assert replace_head(network, torch.randn(V, H)).name == "classify"
    assert replace_head(network, torch.randn(3, 7), alpha_start=2.0).name == "auxiliary"
    assert network.auxiliary.alpha.item() == 2


def test_a_layer_that_is_made_already() -> None:
    network, layer = Network(), FixedOutput(H, torch.randn(V, H), normalize=False)
    replace_head(network, layer)
    assert network.classify is layer


def test_a_module_can_be_named() -> None:
    network = Network()
    assert replace_head(network, "hadamard", name="trunk.narrow").name == "trunk.narrow"
    assert network.trunk["narrow"].out_features == H


@pytest.mark.parametrize("width", [H, 12])  # with 12, a linear map comes before the fixed rows
def test_a_head_is_replaced_again_and_nothing_else_is(width: int) -> None:
    network = Network()
    replace_head(network, torch.randn(V, width))
    bias = network.classify.bias.detach().clone()
    trunk = [*network.trunk.parameters()]
    for again in ("walsh", "learned"):
        assert replace_head(network, again).name == "classify"
        torch.testing.assert_close(network.classify.bias.detach(), bias)
    assert all(one is other for one, other in zip(trunk, network.trunk.parameters(), strict=True))
    network.get_output_embeddings = lambda: network.classify
    assert replace_head(network, "hadamard").name == "classify"
    assert network(torch.randn(3, 8)).shape == (3, V)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pmi",), "pmi: is built from text.*pass vectors="),
        (("hadamrd",), "layer: unknown output layer 'hadamrd'.*Did you mean 'hadamard'"),
        (("tied",), "tied: no input embedding to share"),
        ((torch.randn(7, H),), "Network: it has no nn.Linear with 7 outputs .found trunk.wide with 100"),
        ((torch.zeros(V, H),), "vectors: rows of zeros"),
        ((HadamardOutput(H, V + 1),), "Network: it has no nn.Linear with 41 outputs"),
        ((HadamardOutput(H + 1, V),), r"layer: not of the head's shape \(found 17 → 40, expected 16 → 40\)"),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(arguments: tuple[Any, ...], message: str) -> None:
    network = Network()
    with pytest.raises(InputError, match=message):
        replace_head(network, *arguments)
    assert type(network.classify) is nn.Linear


def test_a_wrong_name_is_told_the_right_ones() -> None:
    with pytest.raises(InputError, match=r"unknown module 'clasify'.*Did you mean 'classify'"):
        replace_head(Network(), "hadamard", name="clasify")
    with pytest.raises(InputError, match=r"trunk: not a linear layer \(found ModuleDict"):
        replace_head(Network(), "hadamard", name="trunk")
    with pytest.raises(InputError, match=r"Linear: it has no nn.Linear"):
        replace_head(nn.Linear(3, 4), "hadamard")


HEADS = {
    "learned": lambda: "learned",
    "hadamard": lambda: "hadamard",
    "fixed": lambda: torch.randn(V, H, generator=torch.Generator().manual_seed(5)),
    "fixed, shorter": lambda: torch.randn(V, 9, generator=torch.Generator().manual_seed(5)),
    "walsh": lambda: "walsh",
}


def gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = {"vocab_size": V, "n_embd": H, "n_layer": 1, "n_head": 2, "n_positions": 32}
    rates = {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}
    return GPT2LMHeadModel(GPT2Config(**sizes, **rates, bos_token_id=0, eos_token_id=1))


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_gpt2_trains_generates_saves_and_loads_with_another_head(head: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    network = gpt2()
    assert replace_head(network, HEADS[head]()).name == "lm_head"
    ids = torch.randint(0, V, (4, 12), generator=torch.Generator().manual_seed(1))
    ids[0, -3:] = -100
    inputs = ids.clamp(min=0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    losses = []
    for _ in range(20):
        loss = network(inputs, labels=ids).loss
        fused = network.lm_head.loss(network.transformer(inputs).last_hidden_state[:, :-1], ids[:, 1:])
        torch.testing.assert_close(fused, loss)
        fused.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    network.eval()
    text = network.generate(inputs[1:2, :4], min_new_tokens=5, max_new_tokens=5, do_sample=False, pad_token_id=0)
    assert text.shape == (1, 9)

    network.save_pretrained(tmp_path)
    other = gpt2()
    replace_head(other, HEADS[head]())
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(other.eval()(inputs).logits, network(inputs).logits)

    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(inputs).logits, network(inputs).logits)


@pytest.mark.slow
def test_gpt2s_embedding_stays_when_its_head_no_longer_shares_it() -> None:
    network = gpt2()
    embedding = network.transformer.wte.weight
    before = embedding.detach().clone()
    replaced = replace_head(network, "hadamard")
    assert replaced.before - replaced.after == -1
    assert network.transformer.wte.weight is embedding
    assert torch.equal(embedding, before)
    assert not network.config.tie_word_embeddings
