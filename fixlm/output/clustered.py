"""A fixed matrix whose rare words stand in clusters: first the cluster, then the word (after Grave et al. 2017)."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from embeddings.errors import InputError
from fixlm.output.cross_entropy import as_tensor, dense_loss, dense_nll, require_count, widened, wrong_ids
from fixlm.output.fixed import TailedOutput, by_fold, unit_rows


class ClusteredOutput(TailedOutput):
    """A head of trained rows and a tail of fixed ones, in two softmaxes instead of one.

    The M words of the head and the C clusters of all other words share the first softmax. The second is over the words
    of one cluster, and only targets in that cluster need it:

        log p(w) = log softmax(α (s Q + D) x̂ + b)[w]                                   for a word of the head,
        log p(w) = log softmax(…)[cluster] + log softmax(β s q · ŷ + b)[w in cluster]   for any other word.

    q, ŷ and β are those of `TailedOutput`. The row of a cluster is trained as those of the head are, and starts at the
    mean of its words. The logits are log probabilities. In training with folds only the tail reads their rows: words of
    the head are too frequent for a fold to matter, and their rows are trained.

    Args:
        hidden_size: H.
        vectors: Q, (V, N).
        words: (V,) ids of the words by falling frequency.
        learned_words: M, how many of them are the head.
        tail_clusters: C; the words behind the head are cut at the ranks M (V/M)^(i/C).
        tail_dim: N', at most N; None: N.
        options: those of `FixedOutput`.

    Raises:
        InputError: a cluster would have no word, or ``words`` are not those of the vectors; or as of `TailedOutput`.

    >>> by_frequency = torch.arange(1000)  # word 0 is the most frequent
    >>> head = ClusteredOutput(64, torch.randn(1000, 64), words=by_frequency, learned_words=100, tail_clusters=2)
    >>> head.edges  # the ranks at which clusters begin, and V
    [100, 316, 1000]
    >>> x, targets = torch.randn(5, 64), torch.randint(1000, (5,))
    >>> torch.testing.assert_close(head(x).exp().sum(1), torch.ones(5))
    >>> torch.testing.assert_close(head.loss(x, targets), torch.nn.functional.nll_loss(head(x), targets))
    """

    ID_BUFFERS = ("head_words", "tail_words")

    def __init__(
        self,
        hidden_size: int,
        vectors: Any,
        *,
        words: Tensor,
        learned_words: int,
        tail_clusters: int,
        tail_dim: int | None = None,
        **options: Any,
    ) -> None:
        rows, words = unit_rows(vectors), as_tensor(words, "words")
        if wrong := wrong_ids(words, len(rows)) or (len(words) < len(rows) and "some words are missing"):
            raise InputError(
                "words", wrong, found=f"{len(words):,} ids", expected=f"each of 0 to {len(rows) - 1:,} once"
            )
        learned_words = learned_words and require_count("learned_words", learned_words)
        edges = cluster_edges(learned_words, len(rows), tail_clusters)
        head, tail = words[:learned_words].clone(), words[learned_words:].clone()
        tail_dim = rows.shape[1] if tail_dim is None else require_count("tail_dim", tail_dim)
        super().__init__(hidden_size, rows, tail_dim=tail_dim, head_words=head, tail_words=tail, **options)
        self.edges = edges
        parts = [widened(self.vectors)[self.order[start:stop]] for start, stop in pairwise(self.edges)]
        rows = torch.stack([part.mean(0) for part in parts])
        self.cluster_rows = nn.Parameter((self.scale * rows).to(self.bias.dtype))
        chances = [self.bias.detach()[self.order[start:stop]] for start, stop in pairwise(self.edges)]
        self.cluster_bias = nn.Parameter(torch.stack([chance.logsumexp(0) for chance in chances]))

    @property
    def longest_tail(self) -> int:
        return self.dim

    def fold_rows(self, rows: Tensor) -> Tensor:
        # In bfloat16 they would be converted in each step, a tenth of its time.
        fit = widened if self.precision is None else Tensor.contiguous
        return torch.stack([fit(self._cut(each)) for each in rows])

    def matrix(self) -> NoReturn:
        raise InputError("output layer", "words in clusters have no single matrix", found="--tail-clusters")

    def _loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return self._both(hidden, targets, None, None)

    def _loss_in_folds(self, hidden: Tensor, targets: Tensor, folds: Tensor, rows: Tensor) -> Tensor:
        return self._both(hidden, targets, folds, rows)

    def _both(self, hidden: Tensor, targets: Tensor, folds: Tensor | None, rows: Tensor | None) -> Tensor:
        """Mean nats over both steps; ``rows`` are those of the folds, (K + 1, V − M, N')."""
        self._follow()
        ranks, features = self.ranks.index_select(0, targets), self.features(hidden)
        precision = self.precision or features.dtype
        first = dense_loss(features, self._head_weight(), self._head_bias(), self._first(ranks), precision)
        total = first * len(ranks)
        for start, stop, tokens in self._clusters(ranks):
            own, chosen, sizes = hidden[tokens], ranks[tokens] - start, None
            if folds is not None and rows is not None:
                own, chosen, sizes = by_fold(own, chosen, folds[tokens], len(rows))
            tail = self._tail(own, rows)
            if not len(tokens):
                total = total + tail.features.sum()  # 0, which gives the map of the tail its gradient of 0
                continue
            part = tail.weight[..., start - self.edges[0] : stop - self.edges[0], :]
            bias = self.bias[self.order[start:stop]]
            total = total + dense_loss(tail.features, part, bias, chosen, precision, None, sizes) * len(tokens)
        return total / len(ranks)

    def _nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        self._follow()
        ranks = self.ranks.index_select(0, targets)
        nats = dense_nll(self.features(hidden), self._head_weight(), self._head_bias(), self._first(ranks))
        for start, stop, tokens in self._clusters(ranks):
            if len(tokens):
                tail, rows = self._tail(hidden[tokens])
                part, bias = rows[start - self.edges[0] : stop - self.edges[0]], self.bias[self.order[start:stop]]
                nats[tokens] += dense_nll(tail, part, bias, ranks[tokens] - start)
        return nats

    def _logits(self, hidden: Tensor) -> Tensor:
        self._follow()
        features, (tail, rows) = self.features(hidden), self._tail(hidden)
        weight = self._head_weight().to(features.dtype)
        # What sums over a vocabulary is in float32.
        head = widened(features @ weight.t() + self._head_bias()).log_softmax(1)
        words = widened(tail @ rows.t().to(tail.dtype) + self.bias[self.tail_words])
        first = self.edges[0]
        parts = [head[:, :first]]
        for cluster, (start, stop) in enumerate(pairwise(self.edges)):
            inside = words[:, start - first : stop - first].log_softmax(1)
            parts.append(head[:, first + cluster, None] + inside)
        return torch.cat(parts, dim=1).index_select(1, self.ranks)

    def _head_weight(self) -> Tensor:
        """Rows of the first step, a s-th of them: (M + C, N)."""
        assert self.head is not None
        fixed = self.vectors.index_select(0, self.head_words).to(widened(self.head).dtype)
        return torch.cat([fixed + widened(self.head) / self.scale, widened(self.cluster_rows) / self.scale])

    def _head_bias(self) -> Tensor:
        """(M + C,)."""
        return torch.cat([self.bias[self.head_words], self.cluster_bias])

    def _first(self, ranks: Tensor) -> Tensor:
        """What the first step has to find for words of these ranks: the word, or M + its cluster."""
        edges = torch.tensor(self.edges[1:-1], device=ranks.device)
        head = self.edges[0]
        return torch.where(ranks < head, ranks, head + torch.bucketize(ranks, edges, right=True))

    def _clusters(self, ranks: Tensor) -> Iterator[tuple[int, int, Tensor]]:
        """The ranks of each cluster, and the places of the targets (k,) that are in it."""
        for start, stop in pairwise(self.edges):
            yield start, stop, ((ranks >= start) & (ranks < stop)).nonzero().squeeze(1)


def cluster_edges(head: int, words: int, clusters: int) -> list[int]:
    """The ranks M (V/M)^(i/C) at which clusters begin, and V: C + 1 of them.

    Raises:
        InputError: some cluster would have no word, or there is none.
    """
    if head < 1 or clusters < 1:
        found = f"learned_words {head}, tail_clusters {clusters}"
        raise InputError("tail_clusters", "a head of one word and one cluster are the least", found=found)
    expected = f"fewer clusters or a smaller head, for {words:,} words in all and {head:,} in the head"
    if clusters > words - head:
        raise InputError("tail_clusters", "some would have no word", found=clusters, expected=expected)
    edges = [round(head * (words / head) ** (i / clusters)) for i in range(clusters + 1)]
    if any(stop <= start for start, stop in pairwise(edges)):
        raise InputError("tail_clusters", "some would have no word", found=clusters, expected=expected)
    return edges
