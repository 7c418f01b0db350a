"""Cross-fitting in training: which fold each token of a window is in, and the vectors counted without each fold."""

from typing import Any, NamedTuple

from torch import Tensor
from torch.nn import functional as F


class WindowFolds(NamedTuple):
    """The folds of one window; see `embeddings.cross_fit`. Scoring has none: it reads the vectors of the whole text.

    Args:
        inputs: (T, B), the fold of each input.
        targets: (T, B), the fold of each target.
        input_rows: (K + 1, V, E), vectors counted without fold k, and last those of the whole text; None where the
            input embedding has no such start.
        output_rows: the same of the output matrix, (K + 1, V, N), as the output layer's ``fold_rows`` gives them; None
            where it is not cross-fitted.
        input_scale: s, what the input embedding was multiplied by at the start.
    """

    inputs: Tensor
    targets: Tensor
    input_rows: Tensor | None = None
    output_rows: Any = None
    input_scale: float = 1.0

    def input_shift(self, ids: Tensor) -> Tensor | None:
        """What is added to the input vectors of words: s·(Q⁽⁻ᵏ⁾ − Q), k the fold of each: (T, B) → (T, B, E), float32.

        The weight of the embedding is W = s·Q + D with D trained from zero, so that the sum is s·Q⁽⁻ᵏ⁾ + D, but for the
        rounding of Q to bfloat16. None: nothing is added.
        """
        rows = self.input_rows
        if rows is None:
            return None
        without = F.embedding(self.inputs * rows.shape[1] + ids, rows.flatten(0, 1)).float()
        return self.input_scale * (without - F.embedding(ids, rows[-1]).float())
