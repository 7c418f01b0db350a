"""What is timed: output layers, decoding and training steps, ours and those of plain torch, on random data."""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Le

from embeddings.options import LARGEST, Checked, Count, option

PLAIN = "plain torch, learned"
ADAPTIVE_CUTOFFS = (2000, 10000)
DECODED = 20  # tokens in a row
SLOW_TOKENS = 140  # of bfloat16 products where the processor has none


@dataclass(frozen=True)
class Sizes(Checked):
    """Of the layers and of what they read."""

    vocabulary_size: Annotated[int, Ge(2), Le(LARGEST)] = option(33_278, "V")
    hidden_size: Annotated[int, Ge(16), Le(LARGEST)] = option(512, "H, and N of the fixed matrices; a power of two")
    walsh_families: Annotated[int, Ge(16), Le(LARGEST)] = option(2048, "M of walsh")
    walsh_family_size: Count | None = option(None, "most words of a family of walsh (none: ⌈V/M⌉)")
    batch_size: Count = option(40, "B")
    bptt: Count = option(70, "T; the layers are measured on B·T tokens")

    @property
    def tokens(self) -> int:
        """B·T."""
        return self.batch_size * self.bptt

    @property
    def walsh(self) -> dict[str, Any]:
        """What `output.build` takes for walsh: words in a row, or strewn over all places if families may be larger."""
        if self.walsh_family_size is None:
            return {"families": self.walsh_families}
        import torch

        from fixlm.errors import InputError

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


def layers(sizes: Sizes) -> dict[str, Any]:
    """The output layers by the names of the report."""
    import torch

    from fixlm import output

    size, hidden = sizes.vocabulary_size, sizes.hidden_size
    vectors = torch.nn.functional.normalize(torch.randn(size, hidden), dim=1)
    return {
        "learned_fused": output.build("learned", hidden, size),
        "dense_fixed_float32": output.build("pretrained", hidden, size, vectors=vectors),
        "dense_fixed_bfloat16": output.build("pretrained", hidden, size, vectors=vectors, precision=torch.bfloat16),
        "hadamard": output.build("hadamard", hidden, size),
        "walsh": output.build("walsh", hidden, size, **sizes.walsh),
    }


def random_tokens(sizes: Sizes, tokens: int) -> tuple[Any, Any]:
    """Hidden states (n, H) that want a gradient, and targets (n,)."""
    import torch

    hidden = torch.randn(tokens, sizes.hidden_size, requires_grad=True)
    return hidden, torch.randint(0, sizes.vocabulary_size, (tokens,))


def plain_layer(sizes: Sizes) -> Any:
    """`nn.Linear` to the vocabulary."""
    import torch

    return torch.nn.Linear(sizes.hidden_size, sizes.vocabulary_size)


def backward(loss: Any, module: Any, hidden: Any) -> None:
    """Gradients, which are then dropped."""
    loss.backward()
    hidden.grad = None
    module.zero_grad(set_to_none=True)


def loss_calls(sizes: Sizes) -> dict[str, Call]:
    """(a): loss and gradients of B·T tokens."""
    import torch
    import torch.nn.functional as F

    from fixlm.model.bfloat16 import multiplies_bfloat16

    tokens = sizes.tokens
    hidden, targets = random_tokens(sizes, tokens)
    linear = plain_layer(sizes)
    size = sizes.vocabulary_size
    cutoffs = [cutoff for cutoff in ADAPTIVE_CUTOFFS if cutoff < size] or [size // 2]
    adaptive = torch.nn.AdaptiveLogSoftmaxWithLoss(sizes.hidden_size, sizes.vocabulary_size, cutoffs)
    calls = {
        PLAIN: Call(lambda: backward(F.cross_entropy(linear(hidden), targets), linear, hidden), tokens),
        "adaptive_softmax": Call(lambda: backward(adaptive(hidden, targets).loss, adaptive, hidden), tokens),
    }
    for name, layer in layers(sizes).items():
        slow = name == "dense_fixed_bfloat16" and not multiplies_bfloat16()
        calls[name] = loss_call(layer, hidden, targets, SLOW_TOKENS if slow else tokens)
    return calls


def loss_call(layer: Any, hidden: Any, targets: Any, tokens: int) -> Call:
    """Loss and gradients of the first tokens."""
    inputs = hidden[:tokens].detach().requires_grad_()
    return Call(lambda: backward(layer.loss(inputs, targets[:tokens]), layer, inputs), tokens)


def nll_calls(sizes: Sizes) -> dict[str, Call]:
    """(b): scoring without gradient."""
    import torch
    import torch.nn.functional as F

    tokens = sizes.tokens
    hidden, targets = random_tokens(sizes, tokens)
    linear = plain_layer(sizes)
    plain = torch.no_grad()(lambda: F.cross_entropy(linear(hidden), targets, reduction="none"))
    calls = {PLAIN: Call(plain, tokens)}
    for name, layer in layers(sizes).items():
        if name != "dense_fixed_bfloat16":  # always scored in float32
            calls[name] = Call(functools.partial(layer.nll, hidden, targets), tokens)
    return calls


def decode_calls(sizes: Sizes) -> dict[str, Call]:
    """(c): the logits of one token after another."""
    import torch

    hidden, _ = random_tokens(sizes, 1)

    def repeated(logits: Callable[[Any], object]) -> Call:
        def work() -> None:
            with torch.no_grad():
                for _ in range(DECODED):
                    logits(hidden)

        return Call(work, DECODED)

    built = layers(sizes)
    calls = {PLAIN: repeated(plain_layer(sizes))}
    return calls | {name: repeated(built[name].logits) for name in ("dense_fixed_float32", "hadamard", "walsh")}


def step_calls(sizes: Sizes) -> dict[str, Call]:
    """(f): whole training steps of the 2-layer model."""
    tokens = sizes.tokens
    ours = {"tied": "tied", "pmi": "pretrained", "hadamard": "hadamard", "walsh": "walsh"}
    calls = {PLAIN: Call(plain_step(sizes), tokens)}
    return calls | {name: Call(our_step(layer, sizes), tokens) for name, layer in ours.items()}


def plain_step(sizes: Sizes) -> Callable[[], object]:
    """One step of a language model as PyTorch's word_language_model example trains it."""
    import torch
    from torch import nn

    hidden_size, size = sizes.hidden_size, sizes.vocabulary_size
    embedding, dropout = nn.Embedding(size, hidden_size), nn.Dropout(0.2)
    lstm = nn.LSTM(hidden_size, hidden_size, 2, dropout=0.2)
    decoder = nn.Linear(hidden_size, size)
    parameters = [p for module in (embedding, lstm, decoder) for p in module.parameters()]
    ids = torch.randint(0, size, (sizes.bptt + 1, sizes.batch_size))
    state = [torch.zeros(2, sizes.batch_size, hidden_size)] * 2

    def step() -> None:
        for parameter in parameters:
            parameter.grad = None
        hidden, after = lstm(dropout(embedding(ids[:-1])), tuple(state))
        logits = decoder(dropout(hidden)).view(-1, size)
        loss = nn.functional.nll_loss(logits.log_softmax(1), ids[1:].view(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 0.25)
        with torch.no_grad():
            for parameter in parameters:
                assert parameter.grad is not None
                parameter.add_(parameter.grad, alpha=-0.1)
        state[:] = [part.detach() for part in after]

    return step


def our_step(name: str, sizes: Sizes) -> Callable[[], object]:
    """One step of `fixlm.train` with that output layer."""
    import torch

    from fixlm import output
    from fixlm.config.schema import OptimizationConfig
    from fixlm.model.bfloat16 import multiplies_bfloat16
    from fixlm.model.embedding import input_embedding
    from fixlm.model.language_model import LanguageModel
    from fixlm.training.optimizer import make_optimizer, take_gradients

    hidden_size, size = sizes.hidden_size, sizes.vocabulary_size
    precision = torch.bfloat16 if multiplies_bfloat16() else None
    config = OptimizationConfig()
    embedding = input_embedding(size, hidden_size)
    options: dict[str, Any] = sizes.walsh if name == "walsh" else {}
    if name == "pretrained":
        options["vectors"] = torch.nn.functional.normalize(torch.randn(size, hidden_size), dim=1)
    layer = output.build(name, hidden_size, size, input_embedding=embedding, precision=precision, **options)
    model = LanguageModel(
        embedding, hidden_size, layer, dropout_input=0.2, dropout_between=0.2, dropout_output=0.2, precision=precision
    ).train()
    optimizer = make_optimizer(model, config)
    ids = torch.randint(0, size, (sizes.bptt + 1, sizes.batch_size))
    state = [model.start_state(sizes.batch_size)]

    def step() -> None:
        _, _, state[0] = take_gradients(model, optimizer, ids, state[0], config.clip)
        optimizer.step()

    return step


def growth_calls(sizes: Sizes) -> dict[str, Call]:
    """Loss and gradients of a few tokens."""
    import torch
    import torch.nn.functional as F

    from fixlm import output

    size, hidden_size = sizes.vocabulary_size, sizes.hidden_size
    hidden, targets = random_tokens(sizes, sizes.tokens)
    linear = plain_layer(sizes)
    vectors = torch.nn.functional.normalize(torch.randn(size, hidden_size), dim=1)
    built = {
        "dense_fixed_float32": output.build("pretrained", hidden_size, size, vectors=vectors),
        "hadamard": output.build("hadamard", hidden_size, size),
        "walsh": output.build("walsh", hidden_size, size, **sizes.walsh),
    }
    plain = Call(lambda: backward(F.cross_entropy(linear(hidden), targets), linear, hidden), sizes.tokens)
    ours = {name: loss_call(layer, hidden, targets, sizes.tokens) for name, layer in built.items()}
    return {PLAIN: plain} | ours
