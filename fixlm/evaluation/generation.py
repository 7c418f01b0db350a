"""Text from a model: one word after another, each drawn from what the model expects next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from fixlm.errors import InputError
from fixlm.evaluation.sampling import Sampling

if TYPE_CHECKING:
    from torch import Tensor

    from fixlm.model.language_model import LanguageModel

COLDEST = 1e-30
"""The lowest temperature above 0 by which float32 can be divided."""
HOTTEST = 1e30
"""The highest: it is no infinity in float32."""


@torch.inference_mode()
def generate(model: LanguageModel, prompt: np.ndarray, sampling: Sampling, never: Sequence[int] = ()) -> Iterator[int]:
    """Ids without end.

    Args:
        model: not in training mode.
        prompt: (n,) ids to go on from, at least one.
        never: ids that are not drawn.
    """
    device = model.input_embedding.weight.device
    random = torch.Generator().manual_seed(sampling.seed)
    state = model.start_state(1)
    banned = torch.tensor(list(never), dtype=torch.int64)
    wanted = 1 if sampling.temperature == 0 else sampling.top_k
    looked_at = min(wanted + len(never), model.output.vocabulary_size)  # enough of them may be drawn
    ids = torch.from_numpy(prompt).long()[:, None].to(device)  # (n, 1)
    while True:
        hidden, state = model(ids, state)
        last = hidden[-1, 0]  # (H,)
        if wanted:
            logits, words = (each.cpu() for each in model.output.top_k(last, looked_at))  # (k,), (k,)
            logits[torch.isin(words, banned)] = -torch.inf
            word = int(words[draw(logits, sampling, random)])
        else:
            logits = model.output.logits(last).cpu()  # (V,)
            logits[banned] = -torch.inf
            word = draw(logits, sampling, random)
        yield word
        ids = torch.tensor([[word]], device=device)


def draw(logits: Tensor, sampling: Sampling, random: torch.Generator) -> int:
    """A word from softmax(logits / temperature), cut to the k and to the share p that are most probable: (V,) → id.

    Raises:
        InputError: a logit is not a number.
    """
    if not bool((logits < torch.inf).all()):  # which is false of what is no number
        raise InputError("model", "its logits are not numbers, so no word can be drawn")
    if sampling.temperature == 0:
        return int(logits.argmax())
    logits = (logits - logits.max()) / min(max(sampling.temperature, COLDEST), HOTTEST)
    if 0 < sampling.top_k < len(logits):
        logits = logits.masked_fill(logits < logits.topk(sampling.top_k).values[-1], -torch.inf)
    probability = logits.softmax(0)
    if sampling.top_p < 1:
        falling, order = probability.sort(descending=True)
        before = falling.cumsum(0) - falling  # of all words that are more probable
        cut = before >= sampling.top_p
        cut[0] = False  # also at a p that is 0 in float32
        probability[order[cut]] = 0
    return int(torch.multinomial(probability, 1, generator=random))
