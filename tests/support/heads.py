"""The output layers of a library's user, small, with numbers that the tests of several files share."""

from __future__ import annotations

import torch
from torch import Tensor

from fixlm.output.clustered import ClusteredOutput
from fixlm.output.fixed import FixedOutput
from fixlm.output.hadamard import HadamardOutput
from fixlm.output.layer import OutputLayer
from fixlm.output.learned import LearnedOutput
from fixlm.output.walsh import WalshOutput

H, V = 32, 150
NAMES = ("learned", "fixed", "clusters", "hadamard", "walsh", "walsh with rows")


def vectors(words: int = V, dim: int = H) -> Tensor:
    return torch.randn(words, dim, generator=torch.Generator().manual_seed(1))


def layer(name: str, words: int = V, **options: object) -> OutputLayer:
    torch.manual_seed(2)
    made: dict[str, OutputLayer] = {
        "learned": LearnedOutput(H, words, **options),
        "fixed": FixedOutput(H, vectors(words), **options),
        "clusters": ClusteredOutput(
            H, vectors(words), words=torch.arange(words), learned_words=20, tail_clusters=2, **options
        ),
        "hadamard": HadamardOutput(H, words, **options),
        "walsh": WalshOutput(H, words, families=16, **options),  # type: ignore[arg-type]
        "walsh with rows": WalshOutput(H, words, families=16, head_words=torch.arange(0, words, 2), **options),  # type: ignore[arg-type]
    }
    with torch.no_grad():
        made[name].bias.normal_()
        if getattr(made[name], "head", None) is not None:
            made[name].head.normal_()
    return made[name]


def batch(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(*shape, H, generator=generator).to(dtype).requires_grad_()
    return x, torch.randint(0, V, shape, generator=generator)
