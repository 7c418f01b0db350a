"""The output layers that the benchmark compares, and their sizes."""

from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor, nn

from embeddings.options import LARGEST, Checked, Count, option
from fixlm import output
from fixlm.errors import InputError

PLAIN = "plain torch, learned"
LOW = "_bfloat16"
"""Behind the name of a layer whose products are in this type; those of `hadamard` never are, since it has none."""
ADAPTIVE_CUTOFFS = (2000, 10000)


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


class PlainLayer(nn.Linear):
    """A linear layer and cross-entropy as plain torch has them, with the methods of `fixlm.output`'s layers."""

    low = False

    def logits(self, hidden: Tensor) -> Tensor:
        return self(hidden)  # (n, V)

    def top_k(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        return self(hidden).topk(k)  # (n, k), (n, k)

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.low):
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
    low, name = name.endswith(LOW), name.removesuffix(LOW)
    if name == PLAIN:
        layer = PlainLayer(hidden, size)
        layer.low = low
        return layer
    cutoffs = [cutoff for cutoff in ADAPTIVE_CUTOFFS if cutoff < size] or [size // 2]
    if name == "adaptive_softmax":
        return AdaptiveSoftmax(hidden, size, cutoffs)
    if name == "adaptive":
        more["cutoffs"] = cutoffs
    if name == "walsh":
        more |= sizes.walsh
    if low:
        more["precision"] = torch.bfloat16
    if name.startswith("dense_fixed") or name == "pretrained":
        name, more["vectors"] = "pretrained", F.normalize(torch.randn(size, hidden), dim=1)  # (V, N)
    return output.build(name.removesuffix("_fused"), hidden, size, **more)
