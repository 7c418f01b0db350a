"""What `linear_cross_entropy` takes beside a weight: rows that are trained, and shorter rows."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor

ROWS = threading.RLock()
"""Held while trained rows stand in a fixed weight, and while such a weight is read: two threads may share a layer."""


class Head(NamedTuple):
    """The rows of a weight that are trained where the others are fixed.

    Args:
        added: (M, D), what is added to those rows.
        ids: (M,) which rows they are, no two alike.
        places: (V,) the place of each row of the weight in ``added``, −1 for the fixed ones.
    """

    added: Tensor
    ids: Tensor
    places: Tensor

    @contextmanager
    def put_into(self, weight: Tensor) -> Iterator[None]:
        """Adds to the rows of a weight (V, D) until the block ends; then it has its own again, bit for bit.

        A copy of the whole would take as long as a tenth of the products.
        """
        with ROWS:
            own = weight.index_select(0, self.ids)  # faster than indexing
            rows = own.to(self.added.dtype) + self.added.detach()
            weight.index_copy_(0, self.ids, rows.to(weight.dtype))
            try:
                yield
            finally:
                weight.index_copy_(0, self.ids, own)


class Tail(NamedTuple):
    """Rows behind those of a weight, of another length and with features of their own. They have no gradient.

    Args:
        features: (n, D').
        weight: (R', D'); or (K or more, R', D'), one for each group of tokens.
    """

    features: Tensor
    weight: Tensor
