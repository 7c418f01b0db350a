"""What is timed: output layers, decoding and training steps, ours and those of plain torch, on random data."""

import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from benchmark_layers import LOW, PLAIN, Sizes, build_layer
from torch import Tensor, nn

from embeddings.cross_fit import FoldVectors
from fixlm.config.read import read_config
from fixlm.config.schema import OptimizationConfig
from fixlm.evaluation.generation import generate
from fixlm.evaluation.sampling import Sampling
from fixlm.model.bfloat16 import multiplies_bfloat16
from fixlm.model.embedding import input_embedding
from fixlm.model.language_model import LanguageModel
from fixlm.output.layer import OutputLayer
from fixlm.training.folds import TrainingFolds
from fixlm.training.optimizer import make_optimizer, take_gradients
from fixlm.training.ranks import Ranks
from fixlm.training.windows import Window

GROWN = (PLAIN, "dense_fixed_float32", "hadamard", "walsh")
SCORED = (PLAIN, "learned_fused", "dense_fixed_float32", "hadamard", "walsh")
TRAINED = (
    PLAIN, PLAIN + LOW, "learned_fused", "learned" + LOW, "dense_fixed_float32", "dense_fixed" + LOW, "hadamard",
    "walsh", "walsh" + LOW,
)  # fmt: skip
DECODING = (PLAIN, "walsh", "hadamard")
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
    "trained rows, clusters": ("pretrained", 0, ("learned_words", "tail_clusters")),
    "trained rows, clusters, folds": ("pretrained", FOLDS, ("learned_words", "tail_clusters")),
}
"""Layer, number of folds and options of further steps: an eighth of the words is trained, rows are cut to a quarter."""
DECODED = 20  # tokens in a row
TOP_K = 10  # words that are wanted of each


@dataclass(frozen=True)
class Call:
    """Something to time, and how many tokens it handles."""

    work: Callable[[], object]
    tokens: int

    def seconds_per_token(self) -> float:
        began = time.perf_counter()
        self.work()
        return (time.perf_counter() - began) / self.tokens


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


def trained() -> list[str]:
    """The output layers whose loss is measured: bfloat16 only on processors with such products."""
    return [name for name in TRAINED if multiplies_bfloat16() or not name.endswith(LOW)]


def loss_calls(sizes: Sizes, names: Iterable[str] | None = None) -> dict[str, Call]:
    """(a): loss and gradients of B·T tokens."""
    hidden, targets = random_tokens(sizes, sizes.tokens)
    names = [*trained(), "adaptive_softmax"] if names is None else names
    return {
        name: Call(partial(loss_and_gradients, build_layer(name, sizes), hidden, targets), sizes.tokens)
        for name in names
    }


def nll_calls(sizes: Sizes) -> dict[str, Call]:
    """(b): scoring without gradient, always in float32."""
    hidden, targets = random_tokens(sizes, sizes.tokens)
    return {name: Call(partial(build_layer(name, sizes).nll, hidden, targets), sizes.tokens) for name in SCORED}


def decode_calls(sizes: Sizes) -> dict[str, Call]:
    """(c): the logits of one token after another."""
    hidden = torch.randn(1, sizes.hidden_size)
    return {name: in_a_row(build_layer(name, sizes).logits, hidden) for name in GROWN}


def top_k_calls(sizes: Sizes) -> dict[str, Call]:
    """(h): the most likely words of one token after another."""
    hidden = torch.randn(1, sizes.hidden_size)
    return {name: in_a_row(build_layer(name, sizes).top_k, hidden, TOP_K) for name in DECODING}


def generation_calls(sizes: Sizes) -> dict[str, Call]:
    """(i): a text that a 2-layer model writes, each word drawn among the most likely ones."""
    hidden_size, size = sizes.hidden_size, sizes.vocabulary_size
    embedding = input_embedding(size, hidden_size)  # one for all of them: at a million words it is large
    sampling, start = Sampling(top_k=TOP_K), random_words(sizes, 1)
    calls = {PLAIN: Call(plain_generation(embedding, sizes, start), DECODED)}
    for name in DECODING[1:]:
        model = LanguageModel(embedding, hidden_size, build_layer(name, sizes)).eval()
        calls[name] = Call(partial(written, model, start.numpy(), sampling), DECODED)
    return calls


def written(model: LanguageModel, prompt: np.ndarray, sampling: Sampling) -> list[int]:
    """The ids of `DECODED` words."""
    return [*itertools.islice(generate(model, prompt, sampling), DECODED)]


def plain_generation(embedding: nn.Embedding, sizes: Sizes, start: Tensor) -> Callable[[], object]:
    """The same in plain torch, with a linear layer and all its logits."""
    hidden_size = sizes.hidden_size
    lstm, decoder = nn.LSTM(hidden_size, hidden_size, 2), nn.Linear(hidden_size, sizes.vocabulary_size)

    @torch.inference_mode()
    def write() -> None:
        state, word = None, start  # (1,)
        for _ in range(DECODED):
            hidden, state = lstm(embedding(word), state)
            logits, words = decoder(hidden[0]).topk(TOP_K)
            word = words[torch.multinomial(logits.softmax(0), 1)]

    return write


def in_a_row(method: Callable[..., object], *arguments: object) -> Call:
    """The same token several times, without gradient."""

    @torch.no_grad()
    def work() -> None:
        for _ in range(DECODED):
            method(*arguments)

    return Call(work, DECODED)


def step_calls(sizes: Sizes) -> dict[str, Call]:
    """(f): whole training steps of the 2-layer model, also in bfloat16 where the processor has such products."""
    calls = {PLAIN: Call(plain_step(sizes), sizes.tokens)}
    for name, layer in STEPS.items():
        calls[name] = Call(our_step(layer, sizes), sizes.tokens)
        if multiplies_bfloat16():
            calls[f"{name}_float32"] = Call(our_step(layer, sizes, low=False), sizes.tokens)
    return calls


def pmi_step_calls(sizes: Sizes) -> dict[str, Call]:
    """(g): whole training steps of what pmi is trained with, beside tied."""
    options = {"learned_words": sizes.vocabulary_size // 8, "tail_dim": sizes.hidden_size // 4, "tail_clusters": 2}
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
    low: bool = True,
    frozen: bool = False,
    loss_of: Callable[[LanguageModel], Any] | None = None,
    **more: Any,
) -> Callable[[], object]:
    """One step of `fixlm.train` with that output layer.

    Args:
        folds: of vectors that both ends read; 0: none.
        low: whether products are in bfloat16 where the processor has such.
        frozen: whether the input embedding is.
        loss_of: gives what to call in place of a model's `regularized_loss`.
        more: further arguments of `fixlm.output.build`.
    """
    hidden_size, size = sizes.hidden_size, sizes.vocabulary_size
    precision = torch.bfloat16 if low and multiplies_bfloat16() else None
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
