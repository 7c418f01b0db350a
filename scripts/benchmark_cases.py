"""What is timed: output layers, decoding and training steps, ours and those of plain torch, on random data."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor, nn

from embeddings.cross_fit import FoldVectors
from embeddings.options import LARGEST, Checked, Count, option
from fixlm import output
from fixlm.config.read import read_config
from fixlm.config.schema import OptimizationConfig
from fixlm.errors import InputError
from fixlm.model.bfloat16 import multiplies_bfloat16
from fixlm.model.embedding import input_embedding
from fixlm.model.language_model import LanguageModel
from fixlm.output.layer import OutputLayer
from fixlm.training.folds import TrainingFolds
from fixlm.training.optimizer import make_optimizer, take_gradients
from fixlm.training.ranks import Ranks
from fixlm.training.windows import Window

PLAIN = "plain torch, learned"
GROWN = (PLAIN, "dense_fixed_float32", "hadamard", "walsh")
OUTPUTS = (PLAIN, "learned_fused", "dense_fixed_float32", "dense_fixed_bfloat16", "hadamard", "walsh")
STEPS = {
    "learned": "learned", "tied": "tied", "adaptive": "adaptive", "pmi": "pretrained", "hadamard": "hadamard",
    "walsh": "walsh",
}  # fmt: skip
"""The output layer of each training step that is measured; the time does not depend on what a fixed matrix holds."""
FOLDS = 8
PMI_STEPS = {
    "tied": ("tied", 0, ()),
    "pmi": ("pretrained", 0, ()),
    "pmi, folds": ("pretrained", FOLDS, ()),
    "trained rows": ("pretrained", 0, ("learned_words",)),
    "trained rows, folds": ("pretrained", FOLDS, ("learned_words",)),
    "trained rows, short tail": ("pretrained", 0, ("learned_words", "tail_dim")),
    "trained rows, short tail, folds": ("pretrained", FOLDS, ("learned_words", "tail_dim")),
}
"""Layer, number of folds and options of further steps: an eighth of the words is trained, rows are cut to a quarter."""
ADAPTIVE_CUTOFFS = (2000, 10000)
DECODED = 20  # tokens in a row
SLOW_TOKENS = 140  # of bfloat16 products where the processor has none


@dataclass(frozen=True)
class Sizes(Checked):
    """Of the layers and of what they read."""

    vocabulary_size: Annotated[int, Ge(2), Le(LARGEST)] = option(33_278, "V, the vocabulary size")
    hidden_size: Annotated[int, Ge(16), Le(LARGEST)] = option(512, "H, and N of the fixed matrices: a power of two")
    walsh_families: Annotated[int, Ge(16), Le(LARGEST)] = option(2048, "M, the number of families of walsh")
    walsh_family_size: Count | None = option(
        None, "largest number of words in a family of walsh (none: V/M rounded up)"
    )
    batch_size: Count = option(40, "B, the number of streams")
    bptt: Count = option(70, "T, the number of time steps. The layers are measured on B·T tokens")

    @property
    def tokens(self) -> int:
        """B·T."""
        return self.batch_size * self.bptt

    @property
    def walsh(self) -> dict[str, Any]:
        """What `output.build` takes for walsh: words in a row, or strewn over all places if families may be larger."""
        if self.walsh_family_size is None:
            return {"families": self.walsh_families}
        places = self.walsh_families * self.walsh_family_size
        if places < self.vocabulary_size:
            what = f"too small for {self.vocabulary_size:,} words in {self.walsh_families:,} families"
            least = -(-self.vocabulary_size // self.walsh_families)
            raise InputError("--walsh-family-size", what, found=self.walsh_family_size, expected=f"at least {least}")
        return {"families": self.walsh_families, "slots": torch.randperm(places)[: self.vocabulary_size]}


@dataclass(frozen=True)
class Call:
    """Something to time, and how many tokens it handles."""

    work: Callable[[], object]
    tokens: int

    def seconds_per_token(self) -> float:
        began = time.perf_counter()
        self.work()
        return (time.perf_counter() - began) / self.tokens


class PlainLayer(nn.Linear):
    """A linear layer and cross-entropy as plain torch has them, with the methods of `fixlm.output`'s layers."""

    def logits(self, hidden: Tensor) -> Tensor:
        return self(hidden)  # (n, V)

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(self(hidden), targets)

    @torch.no_grad()
    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(self(hidden), targets, reduction="none")  # (n,)


class AdaptiveSoftmax(nn.AdaptiveLogSoftmaxWithLoss):
    """torch's adaptive softmax, with the `loss` of `fixlm.output`'s layers."""

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return self(hidden, targets).loss


def build_layer(name: str, sizes: Sizes, **more: Any) -> Any:
    """An output layer.

    Args:
        name: one of the report, or of `fixlm.output`.
        more: further arguments of `fixlm.output.build`.
    """
    size, hidden = sizes.vocabulary_size, sizes.hidden_size
    if name == PLAIN:
        return PlainLayer(hidden, size)
    cutoffs = [cutoff for cutoff in ADAPTIVE_CUTOFFS if cutoff < size] or [size // 2]
    if name == "adaptive_softmax":
        return AdaptiveSoftmax(hidden, size, cutoffs)
    if name == "adaptive":
        more["cutoffs"] = cutoffs
    if name == "walsh":
        more |= sizes.walsh
    if name == "dense_fixed_bfloat16":
        more["precision"] = torch.bfloat16
    if name.startswith("dense_fixed") or name == "pretrained":
        name, more["vectors"] = "pretrained", F.normalize(torch.randn(size, hidden), dim=1)  # (V, N)
    return output.build(name.removesuffix("_fused"), hidden, size, **more)


def random_tokens(sizes: Sizes, tokens: int) -> tuple[Tensor, Tensor]:
    """Hidden states (n, H) that want a gradient, and targets (n,)."""
    hidden = torch.randn(tokens, sizes.hidden_size, requires_grad=True)
    return hidden, random_words(sizes, tokens)


def random_words(sizes: Sizes, count: int) -> Tensor:
    """Ids (count,), that of word i with a probability ∝ 1/(i + 1): an adaptive softmax is fast for frequent words."""
    return torch.multinomial(1 / torch.arange(1, sizes.vocabulary_size + 1), count, replacement=True)


def loss_and_gradients(layer: Any, hidden: Tensor, targets: Tensor) -> None:
    """Of one output layer; the gradients are dropped."""
    layer.loss(hidden, targets).backward()
    hidden.grad = None
    layer.zero_grad(set_to_none=True)


def loss_calls(sizes: Sizes, names: Iterable[str] = (*OUTPUTS, "adaptive_softmax")) -> dict[str, Call]:
    """(a): loss and gradients of B·T tokens."""
    hidden, targets = random_tokens(sizes, sizes.tokens)
    calls = {}
    for name in names:
        slow = name == "dense_fixed_bfloat16" and not multiplies_bfloat16()
        tokens = min(SLOW_TOKENS, sizes.tokens) if slow else sizes.tokens
        inputs = hidden[:tokens].detach().requires_grad_()
        calls[name] = Call(partial(loss_and_gradients, build_layer(name, sizes), inputs, targets[:tokens]), tokens)
    return calls


def nll_calls(sizes: Sizes) -> dict[str, Call]:
    """(b): scoring without gradient."""
    hidden, targets = random_tokens(sizes, sizes.tokens)
    names = [name for name in OUTPUTS if name != "dense_fixed_bfloat16"]  # always scored in float32
    return {name: Call(partial(build_layer(name, sizes).nll, hidden, targets), sizes.tokens) for name in names}


def decode_calls(sizes: Sizes) -> dict[str, Call]:
    """(c): the logits of one token after another."""
    hidden, _ = random_tokens(sizes, 1)

    def work(layer: Any) -> None:
        with torch.no_grad():
            for _ in range(DECODED):
                layer.logits(hidden)

    return {name: Call(partial(work, build_layer(name, sizes)), DECODED) for name in GROWN}


def step_calls(sizes: Sizes) -> dict[str, Call]:
    """(f): whole training steps of the 2-layer model."""
    calls = {PLAIN: Call(plain_step(sizes), sizes.tokens)}
    return calls | {name: Call(our_step(layer, sizes), sizes.tokens) for name, layer in STEPS.items()}


def pmi_step_calls(sizes: Sizes) -> dict[str, Call]:
    """(g): whole training steps of what pmi is trained with, beside tied."""
    options = {"learned_words": sizes.vocabulary_size // 8, "tail_dim": sizes.hidden_size // 4}
    calls = {}
    for name, (layer, folds, flags) in PMI_STEPS.items():
        more: dict[str, Any] = {flag: options[flag] for flag in flags} | (
            {} if layer == "tied" else {"normalize": False}
        )
        calls[name] = Call(our_step(layer, sizes, folds, **more), sizes.tokens)
    return calls


def plain_step(sizes: Sizes) -> Callable[[], object]:
    """One step of a language model as PyTorch's word_language_model example trains it."""
    hidden_size, size = sizes.hidden_size, sizes.vocabulary_size
    # Two layers, dropout of 0.2 and clipping at 0.25 are what the example has by default.
    embedding, dropout = nn.Embedding(size, hidden_size), nn.Dropout(0.2)
    lstm = nn.LSTM(hidden_size, hidden_size, 2, dropout=0.2)
    decoder = nn.Linear(hidden_size, size)
    model = nn.ModuleList([embedding, lstm, decoder])
    parameters = [*model.parameters()]
    ids = random_words(sizes, (sizes.bptt + 1) * sizes.batch_size).view(-1, sizes.batch_size)  # (T + 1, B)
    state = [torch.zeros(2, sizes.batch_size, hidden_size)] * 2

    def step() -> None:
        model.zero_grad()
        hidden, after = lstm(dropout(embedding(ids[:-1])), tuple(state))
        logits = decoder(dropout(hidden)).view(-1, size)  # (T·B, V)
        loss = F.nll_loss(logits.log_softmax(1), ids[1:].view(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 0.25)
        with torch.no_grad():
            for parameter in parameters:
                assert parameter.grad is not None
                parameter.add_(parameter.grad, alpha=-0.1)
        state[:] = [part.detach() for part in after]

    return step


def our_step(
    name: str,
    sizes: Sizes,
    folds: int = 0,
    *,
    frozen: bool = False,
    loss_of: Callable[[LanguageModel], Any] | None = None,
    **more: Any,
) -> Callable[[], object]:
    """One step of `fixlm.train` with that output layer.

    Args:
        folds: of vectors that both ends read; 0: none.
        frozen: whether the input embedding is.
        loss_of: gives what to call in place of a model's `regularized_loss`.
        more: further arguments of `fixlm.output.build`.
    """
    hidden_size, size = sizes.hidden_size, sizes.vocabulary_size
    precision = torch.bfloat16 if multiplies_bfloat16() else None
    config = OptimizationConfig(lr=6e-3)
    embedding = input_embedding(size, hidden_size)
    embedding.requires_grad_(not frozen)
    layer = build_layer(name, sizes, input_embedding=embedding, precision=precision, **more)
    model = LanguageModel(
        embedding, hidden_size, layer, dropout_input=0.2, dropout_between=0.2, dropout_output=0.2, precision=precision
    ).train()
    optimizer = make_optimizer(model, config)
    ids = random_words(sizes, (sizes.bptt + 1) * sizes.batch_size).view(-1, sizes.batch_size)  # (T + 1, B)
    state = [model.start_state(sizes.batch_size)]
    held = training_folds(sizes, folds, layer) if folds else None
    loss = None if loss_of is None else loss_of(model)

    def step() -> None:
        window = None if held is None else held.window(Window(0, 0, sizes.bptt))
        _, _, state[0] = take_gradients(model, optimizer, ids, state[0], config.clip, folds=window, loss=loss)
        optimizer.step()
        if held is not None:
            held.spare_start(embedding.weight, optimizer)

    return step


def training_folds(sizes: Sizes, folds: int, layer: OutputLayer) -> TrainingFolds:
    """Random vectors of folds, which both ends read."""
    rows = torch.randn(folds + 1, sizes.vocabulary_size, sizes.hidden_size).bfloat16()
    vectors = FoldVectors(rows.view(torch.uint16).numpy(), {})
    flags = {"output-embed": "pmi", "input-start": "pmi", "cross-fit": folds, "batch-size": sizes.batch_size}
    tokens = sizes.batch_size * (sizes.bptt + 1)
    return TrainingFolds({"input": vectors, "output": vectors}, read_config(flags), tokens, layer, Ranks())
