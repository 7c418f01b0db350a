"""The adaptive softmax of torch, a baseline: rare words stand in clusters with shorter vectors."""

from typing import Any, NoReturn, Self

import torch
from torch import Tensor, nn

from embeddings.errors import InputError
from fixlm.output.cross_entropy import as_tensor, widened, without_autocast, wrong_ids
from fixlm.output.ingredients import Ingredients
from fixlm.output.layer import OutputLayer
from fixlm.output.options import ADAPTIVE_DIVISOR, AdaptiveOptions


class AdaptiveOutput(OutputLayer):
    """`torch.nn.AdaptiveLogSoftmaxWithLoss` (Grave et al. 2017, "Efficient softmax approximation for GPUs").

    The words are ordered by frequency. The head predicts each of the most frequent ones and the cluster of any other;
    cluster i has vectors of length H / divisor^(i + 1) behind a learned map. The logits are log probabilities. The
    products are taken in the type of the features: torch's class has no other precision.

    Args:
        hidden_size: H.
        vocabulary_size: V.
        words: (V,) ids of the words by falling frequency.
        cutoffs: ranks at which a cluster begins, rising; those that V does not reach are left out.
        divisor: by which the vectors of each further cluster are shorter.
        options: ``log_unigram``, ``bias`` and ``precision``, as of `OutputLayer`; they act on the head's bias.

    Raises:
        InputError: V reaches no cutoff, or the vectors of the last cluster would have no entry.
    """

    words: Tensor
    ID_BUFFERS = ("words",)
    leaves_gradients_out = True  # of a cluster

    def __init__(
        self,
        hidden_size: int,
        vocabulary_size: int,
        words: Tensor,
        *,
        cutoffs: list[int],
        divisor: float = ADAPTIVE_DIVISOR,
        log_unigram: Tensor | None = None,
        bias: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(hidden_size, vocabulary_size, log_unigram, **options)
        words = as_tensor(words, "words")
        if wrong := wrong_ids(words, vocabulary_size) or (len(words) < vocabulary_size and "some words are missing"):
            expected = f"each of 0 to {vocabulary_size - 1:,} once"
            raise InputError("words", wrong, found=f"{len(words):,} ids", expected=expected)
        del self.bias  # of V numbers; torch's class has one in its head
        self.register_buffer("words", words)
        inside = [cutoff for cutoff in cutoffs if cutoff < vocabulary_size]
        if not inside:
            expected = f"one below {vocabulary_size:,}"
            raise InputError("adaptive_cutoffs", "the vocabulary reaches none", found=min(cutoffs), expected=expected)
        shortest = hidden_size // divisor ** len(inside)
        if shortest < 1:
            what = "the vectors of the last cluster would have no entry"
            fix = "a smaller divisor, fewer cutoffs or more units"
            raise InputError("adaptive_divisor", what, found=divisor, fix=fix)
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(
            hidden_size, vocabulary_size, inside, div_value=divisor, head_bias=bias
        )
        self.edges = [*inside, vocabulary_size]
        if log_unigram is not None and bias:
            self._start_bias(as_tensor(log_unigram, "log_unigram"))

    @torch.no_grad()
    def _start_bias(self, log_unigram: Tensor) -> None:
        by_rank = log_unigram[self.words]
        clusters = [each.logsumexp(0) for each in by_rank.tensor_split(self.edges[:-1])[1:]]
        self.softmax.head.bias.copy_(torch.cat([by_rank[: self.edges[0]], torch.stack(clusters)]))

    @classmethod
    def create(cls, hidden_size: int, vocabulary_size: int, given: Ingredients, **options: Any) -> Self:
        words = given.most_frequent(vocabulary_size, vocabulary_size)
        options["cutoffs"] = options.get("cutoffs") or AdaptiveOptions().cutoffs
        return cls(hidden_size, vocabulary_size, words, **options)

    @torch.no_grad()
    def start_at(self, vectors: Tensor) -> None:
        """Starts the head at the vectors (V, H) and at the means of clusters, each cluster at its best low rank."""
        by_rank = vectors[self.words].to(self.softmax.head.weight)
        head, *clusters = by_rank.tensor_split(self.edges[:-1])
        self.softmax.head.weight.copy_(torch.cat([head, *(each.mean(0, keepdim=True) for each in clusters)]))
        tail: Any = self.softmax.tail
        for (shorter, rows), each in zip(tail, clusters, strict=True):
            u, s, vh = torch.linalg.svd(each, full_matrices=False)
            rank = min(len(s), len(shorter.weight))
            shorter.weight[:rank] = vh[:rank]
            rows.weight.zero_()
            rows.weight[:, :rank] = u[:, :rank] * s[:rank]

    @torch.no_grad()
    def scale_start(self, factor: float) -> None:
        """Multiplies the rows of words and clusters, and not the maps to shorter vectors before them."""
        tail: Any = self.softmax.tail
        for rows in (self.softmax.head, *(rows for _, rows in tail)):
            rows.weight.mul_(factor)

    def word_matrix(self) -> NoReturn:
        raise InputError("output layer", "an adaptive softmax has no single matrix of words", found="adaptive")

    def _dtype(self) -> torch.dtype:
        return self.softmax.head.weight.dtype

    def _ranks(self) -> Tensor:
        """(V,): the place of each word in the order by frequency."""
        return self.words.argsort()

    def _loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        with without_autocast(hidden):  # under which torch's class mixes types
            loss: Tensor = self.softmax(hidden.to(self._dtype()), self._ranks().index_select(0, targets)).loss
        return widened(loss)

    def _nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        with without_autocast(hidden):
            found: Tensor = self.softmax(hidden.to(self._dtype()), self._ranks().index_select(0, targets)).output
        return -widened(found)

    def _logits(self, hidden: Tensor) -> Tensor:
        with without_autocast(hidden):
            by_rank: Tensor = self.softmax.log_prob(hidden.to(self._dtype()))
        return by_rank[:, self._ranks()]
