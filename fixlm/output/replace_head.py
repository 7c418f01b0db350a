"""Exchanges the last `nn.Linear` of any network for an output layer of this library."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from embeddings.errors import InputError, unknown_name
from fixlm.output.fixed import FixedOutput, unit_rows
from fixlm.output.layer import OutputLayer
from fixlm.output.learned import LearnedOutput
from fixlm.output.registry import build, names

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReplacedHead:
    """What `replace_head` did; printing it says so in one line.

    Args:
        name: of the exchanged module in the network, such as ``lm_head``.
        head: the layer that is there now.
        before: trained parameters of the whole network before; a weight that two modules share counts once.
        after: and now.
    """

    name: str
    head: OutputLayer
    before: int
    after: int

    def __str__(self) -> str:
        change = self.before - self.after
        went = f"{change:,} fewer" if change >= 0 else f"{-change:,} more"
        head = f"{type(self.head).__name__}({self.head.extra_repr()})"  # in one line, whatever is in it
        return f"layer '{self.name}' is now {head}: {went} trained parameters, {self.after:,} in the network"


def replace_head(model: nn.Module, layer: Any, *, name: str | None = None, **options: Any) -> ReplacedHead:
    """Exchanges the last `nn.Linear` of a network for an output layer of the same shape, (…, H) → (…, V).

    An output layer that took its place before is exchanged as well. The new layer starts at the bias of the old one,
    has none where the old one had none, and takes its device, its type and its mode (training or not). ``"learned"``
    also starts at the weight of an `nn.Linear`, so that the network computes what it did; any other layer has to be
    trained. The head is the module ``name``; else what the network's ``get_output_embeddings()`` gives, as networks of
    `transformers` have it; else the last such layer in order of definition. Where vectors are given, it is the last one
    with as many outputs as there are rows.

    A network of `transformers` whose head shared the weight of its input embedding is told that it no longer does
    (``config.tie_word_embeddings = False``); the embedding stays as it is and trained.

    Args:
        model: the network, changed in place.
        layer: the name of a layer that needs no text, such as ``"hadamard"`` or ``"random-orthogonal"``; or vectors
            (V, N) as `fixlm.FixedOutput` takes them; or an output layer that is made already.
        name: of the module to exchange, as in ``model.named_modules()``.
        options: of the layer, such as ``normalize=False`` or ``alpha_start=8.0``.

    Returns:
        What was exchanged, and how many trained parameters went.

    Raises:
        InputError: there is no such module, it is no such layer, or the new layer does not fit it.

    >>> network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1000))
    >>> print(replace_head(network, "hadamard"))
    layer '2' is now HadamardOutput(in_features=16, out_features=1000, trained=1,001): 15,999 fewer trained parameters, 1,145 in the network
    """  # noqa: E501
    rows = None
    if not isinstance(layer, str | OutputLayer):
        layer = unit_rows(layer)
        rows = len(layer)
    elif isinstance(layer, OutputLayer):
        rows = layer.out_features
    where = _find(model, rows) if name is None else name
    old = _head_at(model, where)
    head = _layer_for(old, layer, options)
    before = _trained(model)
    like = next(chain(old.parameters(), old.buffers()))
    head.to(like.device, like.dtype).train(old.training)
    for each, module in [*model.named_modules(remove_duplicate=False)]:
        if module is old:  # which may be there under several names
            path, _, last = each.rpartition(".")
            setattr(model.get_submodule(path), last, head)
    config = getattr(model, "config", None)
    if getattr(config, "tie_word_embeddings", False):
        config.tie_word_embeddings = False  # type: ignore[union-attr] # else saving looks for the weight that went
    replaced = ReplacedHead(where, head, before, _trained(model))
    logger.info(str(replaced))
    return replaced


Head = nn.Linear | OutputLayer


def _heads(model: nn.Module) -> dict[str, Head]:
    """What can be exchanged, by name: what an output layer is made of cannot."""
    found = {
        name: each
        for name, each in model.named_modules(remove_duplicate=False)
        if isinstance(each, Head) and not isinstance(each, NonDynamicallyQuantizableLinear)  # of an attention
    }
    own = {id(part) for head in found.values() if isinstance(head, OutputLayer) for part in [*head.modules()][1:]}
    return {name: each for name, each in found.items() if name and id(each) not in own}


def _find(model: nn.Module, rows: int | None) -> str:
    heads = _heads(model)
    declared = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # type: ignore[operator]
    fitting = [name for name, each in heads.items() if rows in (None, each.out_features)]
    if not fitting:
        what = "it has no nn.Linear" if rows is None else f"it has no nn.Linear with {rows:,} outputs"
        found = ", ".join(f"{name} with {each.out_features:,}" for name, each in [*heads.items()][-5:]) or None
        raise InputError(type(model).__name__, what, found=found, fix="name the module: name=…")
    return next((name for name in fitting if heads[name] is declared), fitting[-1])


def _head_at(model: nn.Module, name: str) -> Head:
    modules, heads = dict(model.named_modules(remove_duplicate=False)), _heads(model)
    if name not in modules or not name:
        raise unknown_name("name", "module", name, heads)
    if name not in heads:
        raise InputError(name, "not a linear layer", found=type(modules[name]).__name__, expected="nn.Linear")
    return heads[name]


def _layer_for(old: Head, layer: Any, options: dict[str, Any]) -> OutputLayer:
    size, words = old.in_features, old.out_features
    if isinstance(layer, OutputLayer):
        if (layer.in_features, layer.out_features) != (size, words):
            found, expected = f"{layer.in_features} → {layer.out_features}", f"{size} → {words}"
            raise InputError("layer", "not of the head's shape", found=found, expected=expected)
        if options:
            raise InputError("options", "the layer is made already", found=", ".join(options))
        return layer
    bias = getattr(old, "bias", None)
    bias = bias if isinstance(bias, nn.Parameter) else None  # an output layer without one holds zeros
    options = {"bias": bias is not None} | options
    if bias is not None and options["bias"]:
        options.setdefault("log_unigram", bias.detach())
    if isinstance(layer, torch.Tensor):
        return FixedOutput(size, layer, **options)
    if layer not in names():
        raise unknown_name("layer", "output layer", layer, names())
    head = build(layer, size, words, **options)
    if isinstance(head, LearnedOutput) and isinstance(old, nn.Linear):
        head.start_at(old.weight.detach())
    return head


def _trained(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
