"""The contract of an output layer, and what all layers with a dense (V, D) weight share."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from embeddings.errors import InputError
from fixlm.output.cross_entropy import (
    Arithmetic,
    as_tensor,
    autocast_type,
    cross_entropy,
    dense_loss,
    dense_nll,
    flat,
    require_count,
    require_features,
    require_words,
    wrong_ids,
)
from fixlm.output.ingredients import Ingredients
from fixlm.output.kernels.top_k import top_k_of_logits


class OutputLayer(nn.Module, ABC):
    """From hidden states to the probability of the next word: a drop-in for the last `nn.Linear` of a network.

    H is the hidden size, V the vocabulary size, n the number of tokens. A layer implements `_logits`, `_loss` and
    `_nll` for a flat list of tokens; the public methods take any leading dimensions, in float32, float64 or, after
    ``layer.to(torch.bfloat16)`` or inside autocast, bfloat16.

    Args:
        hidden_size: H.
        vocabulary_size: V.
        log_unigram: (V,) log probability of each word, the start value of the bias; zeros if None.
        precision: type of the matrix products of `loss`; that of ``hidden`` if None.
        bias: whether there is a bias b to be learned.

    Raises:
        InputError: ``log_unigram`` has another length, or there is no bias.
    """

    bias: Tensor
    ID_BUFFERS: ClassVar[tuple[str, ...]] = ()
    """Buffers with ids of words, none of them twice. A state dict that says otherwise is refused."""
    leaves_gradients_out = False
    """Whether some parameters have no gradient where a batch has none of their words."""

    def __init__(
        self,
        hidden_size: int,
        vocabulary_size: int,
        log_unigram: Tensor | None = None,
        precision: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        hidden_size = require_count("hidden_size", hidden_size)
        vocabulary_size = require_count("vocabulary_size", vocabulary_size)
        if not (precision is None or isinstance(precision, torch.dtype)):
            raise InputError("precision", "not a type of torch", found=precision, expected="torch.bfloat16, or None")
        log_unigram = None if log_unigram is None else as_tensor(log_unigram, "log_unigram")
        if log_unigram is not None and not bias:
            raise InputError("log_unigram", "there is no bias to start at it", found="bias=False", fix="leave one out")
        if log_unigram is not None and log_unigram.shape != (vocabulary_size,):
            found, expected = list(log_unigram.shape), [vocabulary_size]
            raise InputError("log_unigram", "not one number for each word", found=found, expected=expected)
        if log_unigram is not None and not log_unigram.is_meta and bool(log_unigram.isnan().any()):
            raise InputError("log_unigram", "values that are not numbers", expected="log probabilities")
        start = torch.zeros(vocabulary_size) if log_unigram is None else log_unigram
        start = start.to(torch.get_default_dtype(), copy=True)
        if bias:
            self.bias = nn.Parameter(start)
        else:
            self.register_buffer("bias", torch.zeros(vocabulary_size), persistent=False)
        self.hidden_size, self.vocabulary_size = hidden_size, vocabulary_size
        self.precision = precision

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        names = [name for each in self.ID_BUFFERS if (name := prefix + each) in state_dict]
        ids = torch.cat([state_dict[name].reshape(-1) for name in names]) if names else None
        if wrong := wrong_ids(ids, self.vocabulary_size):
            arguments[-1].append(f"{', '.join(names)}: {wrong}")  # the messages of the error that torch raises
            return
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    @property
    def in_features(self) -> int:
        """H, under the name that `nn.Linear` has for it."""
        return self.hidden_size

    @property
    def out_features(self) -> int:
        """V, under the name that `nn.Linear` has for it."""
        return self.vocabulary_size

    def extra_repr(self) -> str:
        """What stands in brackets when a model is printed."""
        trained = sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)
        return f"in_features={self.in_features}, out_features={self.out_features}, trained={trained:,}"

    @classmethod
    def create(cls, hidden_size: int, vocabulary_size: int, given: Ingredients, **options: Any) -> Self:
        """A layer by name, see `fixlm.output.build`; a layer overrides it to use what is given.

        Args:
            options: keywords of the constructor.
        """
        return cls(hidden_size, vocabulary_size, **options)

    def forward(self, hidden: Tensor) -> Tensor:
        """(…, H) → logits (…, V), of the type that `nn.Linear` would give.

        Raises:
            InputError: a shape or a type does not fit.
        """
        self._require_features(hidden)
        if hidden.dim() == 2:  # as in decoding, where the views below would show in the time of the fastest layer
            logits = self._logits(hidden)
        else:
            logits = self._logits(hidden.reshape(-1, self.hidden_size)).view(*hidden.shape[:-1], self.vocabulary_size)
        return logits.to(autocast_type(hidden) or hidden.dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """The same as `forward`: (…, H) → (…, V)."""
        return self.forward(hidden)

    def loss(
        self, hidden: Tensor, targets: Tensor, *, ignore_index: int | None = -100, reduction: str = "mean"
    ) -> Tensor:
        """Negative log-likelihood in nats, as `F.cross_entropy` of the logits, but keeps no (n, V) array.

        Args:
            hidden: (…, H).
            targets: (…) ids from 0 to V − 1, or ``ignore_index``.
            ignore_index: targets that count nothing; None: there are none, and nobody looks for them.
            reduction: ``mean`` over the targets that count, ``sum``, or ``none``, which computes the logits twice.

        Returns:
            A scalar, or (…) for ``none``; differentiable; float32 where the layer has a lower type.

        Raises:
            InputError: a shape, a type or a target does not fit.
        """
        self._require_features(hidden)
        parts = Arithmetic(self._loss, self._nll, self._logits)
        return cross_entropy(parts, hidden, targets, self.vocabulary_size, ignore_index, reduction)

    def fold_rows(self, rows: Tensor) -> Any:
        """The rows of each fold (K + 1, V, N) as `loss_in_folds` takes them; a layer overrides it to keep less."""
        return rows

    def loss_in_folds(self, hidden: Tensor, targets: Tensor, folds: Tensor, rows: Any) -> Tensor:
        """As `loss`, with the fixed rows of the layer counted without the fold of each target.

        Only a layer whose entry in `fixlm.output.registry` says so has it.

        Args:
            hidden: (…, H).
            targets: (…).
            folds: (…), the fold of each target.
            rows: what `fold_rows` made of the rows of each fold (folds or more, V, N).

        Raises:
            InputError: a shape, a type, a target or a fold does not fit.
        """
        self._require_features(hidden)
        tokens, ids = flat(hidden, targets)
        require_words(ids, self.vocabulary_size)
        groups = len(rows if isinstance(rows, Tensor) else rows[0])
        if folds.shape != targets.shape:
            raise InputError("folds", "not one for each target", found=list(folds.shape), expected=list(targets.shape))
        require_words(folds.reshape(-1), groups, "folds", "fold")
        return self._loss_in_folds(tokens, ids, folds.reshape(-1), rows)

    @torch.no_grad()
    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """(…, H), (…) → (…) nats; no gradient, keeps no (n, V) array, always in the precision of ``hidden``.

        Raises:
            InputError: a shape, a type or a target does not fit.
        """
        self._require_features(hidden)
        rows, ids = flat(hidden, targets)
        require_words(ids, self.vocabulary_size)
        return self._nll(rows, ids).view(targets.shape)

    @torch.no_grad()
    def top_k(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """(…, H) → the k largest logits, falling, and their ids, both (…, k): `torch.topk` of `forward`, no gradient.

        Of equal logits the smaller id comes first. k is from 1 to V.

        Raises:
            InputError: a shape or a type does not fit, or k is out of range.
        """
        self._require_features(hidden)
        if not isinstance(k, int) or not 1 <= k <= self.vocabulary_size:
            raise InputError("k", "not a number of words", found=k, expected=f"1 to {self.vocabulary_size}")
        found, ids = self._top_k(hidden.reshape(-1, self.hidden_size), k)
        found = found.to(autocast_type(hidden) or hidden.dtype)  # behind the ranking, which a lower type would blur
        return found.view(*hidden.shape[:-1], k), ids.view(*hidden.shape[:-1], k)

    @abstractmethod
    def _logits(self, hidden: Tensor) -> Tensor:
        """(n, H) → (n, V)."""

    def _top_k(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """(n, H) → (n, k) values, (n, k) ids; a layer that needs no (n, V) array overrides it."""
        return top_k_of_logits(self._logits(hidden), k)

    @abstractmethod
    def _loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """(n, H), (n,) → scalar."""

    @abstractmethod
    def _nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """(n, H), (n,) → (n,)."""

    def _loss_in_folds(self, hidden: Tensor, targets: Tensor, folds: Tensor, rows: Any) -> Tensor:
        """(n, H), (n,), (n,), what `fold_rows` made of (folds or more, V, N) → scalar."""
        raise NotImplementedError(f"{type(self).__name__} has no rows that are counted on a text")

    def start_at(self, vectors: Tensor) -> None:
        """Starts the trained matrix at vectors (V, H); only a layer with `StartOptions` has one."""
        raise NotImplementedError(f"{type(self).__name__} has no matrix to start")

    @torch.no_grad()
    def scale_start(self, factor: float) -> None:
        """Multiplies the trained matrix as it is before the first step; only for a layer with `StartOptions`."""
        self.get_parameter("weight").mul_(factor)

    def input_rows(self, ids: Tensor) -> Tensor | None:
        """What the layer adds to the input vectors of these words: (…) → (…, H); None: nothing."""
        return None

    def word_matrix(self) -> Tensor:
        """W of logits = W f(x) + b, a row a word: (V, D); D is H where the features f are x itself."""
        unit = torch.eye(self.hidden_size, device=self.bias.device, dtype=self.bias.dtype)
        return (self.logits(unit) - self.bias).t()

    def relatives(self, word_id: int) -> list[int]:
        """The ids of the words that share a part of their code with a word, the head first.

        Raises:
            InputError: the layer has no such groups.
        """
        raise InputError("output layer", "only walsh has families", found=type(self).__name__)

    def _require_features(self, hidden: Tensor) -> None:
        require_features(hidden, self.hidden_size)
        if hidden.dtype != (own := self._dtype()) and autocast_type(hidden) is None:
            fix = f"layer.to({hidden.dtype}), or torch.autocast"
            raise InputError("hidden", "not of the layer's type", found=hidden.dtype, expected=own, fix=fix)

    def _dtype(self) -> torch.dtype:
        """The type of the layer's numbers."""
        return self.bias.dtype


class DenseOutput(OutputLayer):
    """An output layer with logits = f(x) Wᵀ + b, for a weight (V, D) and features f(x) of length D."""

    @abstractmethod
    def matrix(self) -> Tensor:
        """W: (V, D)."""

    @abstractmethod
    def features(self, hidden: Tensor) -> Tensor:
        """f: (n, H) → (n, D)."""

    def word_matrix(self) -> Tensor:
        return self.matrix()

    def _loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return dense_loss(self.features(hidden), self.matrix(), self.bias, targets, self.precision)

    def _nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return dense_nll(self.features(hidden), self.matrix(), self.bias, targets)

    def _logits(self, hidden: Tensor) -> Tensor:
        features = self.features(hidden)
        return torch.addmm(self.bias, features, self.matrix().t().to(features.dtype))


def joining_projection(hidden_size: int, dim: int, *, always: bool = False) -> nn.Linear | None:
    """The learned map H → D where the two differ, or always; else None."""
    return nn.Linear(hidden_size, dim, bias=False) if always or hidden_size != dim else None
