"""What layers with a fixed output matrix share: a learned scale, a learned bias, and maybe a map before the matrix."""

from typing import Any

import torch
from torch import Tensor, nn

from embeddings.errors import InputError, unknown_name
from fixlm.output.cross_entropy import require_count
from fixlm.output.layer import DenseOutput, joining_projection
from fixlm.output.options import ALPHA_START

MAPS = ("auto", "linear", "mlp")
NORM_EPSILON = 1e-6
"""Keeps x/‖x‖ and its gradient finite at x = 0, and is far below the norm of any real feature vector."""


class ScaledOutput(DenseOutput):
    """logits = α Q x̂ + b with x̂ = x/‖x‖ (Hoffer, Hubara and Soudry 2018), Q (V, N) fixed, with rows of norm 1.

    Where H and N differ, or if asked for, a learned map m comes first: x̂ = m(x)/‖m(x)‖ with m(x) = Px, P (N, H), or
    the perceptron P gelu(Wx + c), W (K, H), P (N, K).

    Args:
        hidden_size: H.
        vocabulary_size: V.
        dim: N.
        map: ``auto`` (linear where H and N differ, none where they do not), ``linear`` or ``mlp``.
        map_size: K of ``mlp``; 4·H if None.
        alpha: a value to fix α at; learned if None.
        alpha_start: where a learned α starts.
        normalize: False leaves x as it is, logits = α Q x + b.
        options: ``log_unigram``, ``precision`` and ``bias``, as of `OutputLayer`.
    """

    alpha: Tensor

    def __init__(
        self,
        hidden_size: int,
        vocabulary_size: int,
        dim: int,
        *,
        map: str = "auto",
        map_size: int | None = None,
        alpha: float | None = None,
        alpha_start: float = ALPHA_START,
        normalize: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(hidden_size, vocabulary_size, **options)
        if map not in MAPS:
            raise unknown_name("map", "map", map, MAPS)
        self.dim = dim
        width = hidden_size  # of what the projection reads
        self.hidden_map: nn.Linear | None = None
        if map_size is not None and map != "mlp":
            raise InputError("map_size", "only a perceptron has this size", found=f"map={map}", fix='map="mlp"')
        if map == "mlp":
            width = 4 * hidden_size if map_size is None else require_count("map_size", map_size)
            self.hidden_map = nn.Linear(hidden_size, width)
        self.projection = joining_projection(width, dim, always=map != "auto")
        self.normalize = normalize
        if alpha is None:
            self.alpha = nn.Parameter(torch.tensor(float(alpha_start)))
        else:
            self.register_buffer("alpha", torch.tensor(float(alpha)))

    def features(self, hidden: Tensor) -> Tensor:
        if self.hidden_map is not None:
            hidden = nn.functional.gelu(self.hidden_map(hidden))
        if self.projection is not None:
            hidden = self.projection(hidden)
        if self.normalize:
            hidden = nn.functional.normalize(hidden, dim=-1, eps=NORM_EPSILON)
        return self.alpha * hidden  # scaling (n, N) features is V/N times cheaper than scaling (n, V) logits
