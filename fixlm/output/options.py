"""The options of the output layers: each field is a flag, and a layer has just the flags of its own class.

The classes stand apart from the layers themselves since they are needed for ``--help``, which does not wait for torch.
`fixlm.output.registry` says which layer has which.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge

from embeddings.errors import InputError
from embeddings.options import Checked, Count, Natural, Positive, option, rising_numbers

if TYPE_CHECKING:
    from embeddings.codebook import Codebook
    from embeddings.output_matrix import OutputMatrix

Shapes = dict[str, tuple[int, ...]]
ALPHA_START = 16.0
"""|q · x̂| ≤ 1, so a softmax over V words needs a scale of about log V and more before it can be sure of one."""
LEARNED_WORDS_SCALE = 8.0
"""The length of a row whose steps are trained: of norm 1 it would turn too far with each step of the optimizer."""
ADAPTIVE_DIVISOR = 4.0
"""torch's own default."""
LEARNED_WORDS = (
    "M. The rows of the M most frequent words are trained: they are s·Q + D, with D from zero. In walsh, D·x is added "
    "to the logits of these words"
)
"""The help of a flag that two kinds of layers have."""
EMBEDDING_INIT = 0.1
"""Embeddings and learned output weights start uniform in ±0.1, as in the word_language_model example."""


@dataclass(frozen=True)
class LayerOptions(Checked):
    """No options. The base of the classes below, which override what differs.

    H is the hidden size (units of the last recurrent layer), V the vocabulary size.
    """

    def arguments(self, prepared: OutputMatrix | Codebook | None, prepared_with: Any) -> dict[str, Any]:
        """What the layer's constructor takes beside H and V.

        Args:
            prepared: what was built from the text for this layer.
            prepared_with: the options it was built with.
        """
        return {}

    def problems(self, sizes: Mapping[str, int], prepared_with: Any) -> Iterator[InputError]:
        """What is wrong with these options beside each other.

        Args:
            sizes: ``hidden_size`` and ``embed_size`` of the model.
        """
        yield from ()

    def tensor_shapes(self, hidden_size: int, vocabulary_size: int, prepared_with: Any) -> Shapes:
        """The trained tensors of a checkpoint by name, as far as the configuration alone tells their shapes."""
        return {"bias": (vocabulary_size,)}


@dataclass(frozen=True)
class StartOptions(LayerOptions):
    """Options of a layer whose trained matrix may start at given vectors."""

    output_start: str = option(
        "random",
        "initial values of the output layer's trained matrix: random, or the matrix of a method or of a path. A "
        "family of walsh takes the row of its most frequent word",
        place="ablation",
    )
    output_start_scale: Positive = option(1.0, "scale of these initial values", place="ablation")


@dataclass(frozen=True)
class LearnedOptions(StartOptions):
    """Options of the learned softmax."""

    def tensor_shapes(self, hidden_size: int, vocabulary_size: int, prepared_with: Any) -> Shapes:
        return {"bias": (vocabulary_size,), "weight": (vocabulary_size, hidden_size)}


@dataclass(frozen=True)
class AdaptiveOptions(StartOptions):
    """Options of torch's adaptive softmax."""

    adaptive_cutoffs: str = option(
        "2000,10000", "frequency ranks at which the clusters of rarer words begin", place="ablation"
    )
    adaptive_divisor: Annotated[float, Ge(1)] = option(
        ADAPTIVE_DIVISOR, "factor by which the vectors of each further cluster are shorter", place="ablation"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        rising_numbers("adaptive_cutoffs", self.adaptive_cutoffs)

    @property
    def cutoffs(self) -> list[int]:
        """The ranks as numbers."""
        return rising_numbers("adaptive_cutoffs", self.adaptive_cutoffs)

    def arguments(self, prepared: OutputMatrix | Codebook | None, prepared_with: Any) -> dict[str, Any]:
        return {"cutoffs": self.cutoffs, "divisor": self.adaptive_divisor}

    def tensor_shapes(self, hidden_size: int, vocabulary_size: int, prepared_with: Any) -> Shapes:
        inside = [cutoff for cutoff in self.cutoffs if cutoff < vocabulary_size]
        head = (inside[0] + len(inside), hidden_size) if inside else (0, hidden_size)
        return {"words": (vocabulary_size,), "softmax.head.weight": head}


@dataclass(frozen=True)
class ScaledOptions(LayerOptions):
    """Options of α · Q x̂ + b, whatever Q is."""

    output_dim: Count | None = option(
        None, "N, the length of a row of the output matrix (none: the number of units of the last recurrent layer)"
    )
    normalize: bool = option(True, "divide x by its norm before it meets the matrix, as the paper does")
    alpha: Positive | None = option(None, "hold the scale α at this value (none: α is learned)")
    alpha_start: Positive = option(ALPHA_START, "initial value of a learned α")
    output_map: Literal["auto", "linear", "mlp"] = option(
        "auto",
        "learned map H → N in front of the matrix. auto: linear where H and N differ, else none. mlp: two linear "
        "maps H → K → N with GELU between them",
        place="ablation",
    )
    output_map_size: Count | None = option(None, "K of --output-map mlp (none: 4·H)", place="ablation")

    def arguments(self, prepared: OutputMatrix | Codebook | None, prepared_with: Any) -> dict[str, Any]:
        import torch

        own = {name.replace("output_map", "map"): value for name, value in dataclasses.asdict(self).items()}
        return own | {"vectors": None if prepared is None else torch.from_numpy(prepared.vectors)}  # type: ignore[union-attr]

    def problems(self, sizes: Mapping[str, int], prepared_with: Any) -> Iterator[InputError]:
        if self.output_map_size is not None and self.output_map != "mlp":
            yield InputError(
                "output_map_size",
                "only a perceptron has this size",
                found=f"--output-map {self.output_map}",
                fix="remove the flag, or add --output-map mlp",
            )

    def tensor_shapes(self, hidden_size: int, vocabulary_size: int, prepared_with: Any) -> Shapes:
        shapes = super().tensor_shapes(hidden_size, vocabulary_size, prepared_with)
        width = hidden_size  # of what the projection reads
        if self.output_map == "mlp":
            width = self.output_map_size or 4 * hidden_size
            shapes["hidden_map.weight"] = (width, hidden_size)
        if self.output_dim is not None and (self.output_map != "auto" or self.output_dim != width):
            shapes["projection.weight"] = (self.output_dim, width)
        return shapes


@dataclass(frozen=True)
class FixedOptions(ScaledOptions):
    """Options of a fixed matrix whose rows are stored."""

    word_scales: bool = option(False, "learn a scale of each row of the output matrix", place="ablation")

    learned_words: Natural = option(0, LEARNED_WORDS)
    learned_words_scale: Positive = option(
        LEARNED_WORDS_SCALE,
        "s of --learned-words. It multiplies all rows, and α starts at its s-th part or, with --alpha, is held there. "
        "A step of D is then smaller beside a row",
    )
    tail_dim: Count | None = option(
        None,
        "the other words have rows of so many numbers, the first of their row in the matrix, behind a learned map. "
        "Needs --learned-words (none: rows of the whole length)",
    )

    tail_clusters: Natural = option(
        0,
        "C. The other words stand in C clusters by frequency. Such a word is predicted in two steps: its cluster, "
        "beside the trained rows, and then the word in it. Needs --learned-words (0: all words in one step)",
    )

    def problems(self, sizes: Mapping[str, int], prepared_with: Any) -> Iterator[InputError]:
        yield from super().problems(sizes, prepared_with)
        if self.learned_words and self.word_scales:
            what, fix = "the trained rows of --learned-words have a length of their own", "remove one of the two flags"
            yield InputError("word_scales", what, found=f"--learned-words {self.learned_words}", fix=fix)
        if self.learned_words:
            return
        found, fix = "--learned-words 0", "add --learned-words 4096"
        if self.tail_dim is not None:
            yield InputError("tail_dim", "only beside rows that are trained are the others short", found=found, fix=fix)
        if self.tail_clusters:
            yield InputError("tail_clusters", "only beside rows that are trained are clusters", found=found, fix=fix)

    def arguments(self, prepared: OutputMatrix | Codebook | None, prepared_with: Any) -> dict[str, Any]:
        return super().arguments(prepared, prepared_with) | {"in_state_dict": False}

    def tensor_shapes(self, hidden_size: int, vocabulary_size: int, prepared_with: Any) -> Shapes:
        shapes = super().tensor_shapes(hidden_size, vocabulary_size, prepared_with)
        if self.learned_words:
            shapes["head_words"] = (self.learned_words,)
            if self.output_dim is not None:
                shapes["head"] = (self.learned_words, self.output_dim)
        if self.tail_dim is not None:
            shapes["tail_map.weight"] = (self.tail_dim, hidden_size)
        if self.tail_clusters:
            shapes |= {"tail_words": (vocabulary_size - self.learned_words,), "cluster_bias": (self.tail_clusters,)}
        return shapes | ({"scales": (vocabulary_size,)} if self.word_scales else {})


@dataclass(frozen=True)
class WalshOptions(StartOptions):
    """Options of the walsh layer beside those of its codes (`embeddings.methods.walsh`)."""

    walsh_basis: Literal["families", "codes"] = option(
        "families",
        "meaning of a row of the trained matrix: a family of words, or a bit of the codes. The logits are the "
        "same, the steps of the optimizer differ",
        before="codes",
        place="ablation",
    )
    walsh_rank: Count | None = option(
        None, "R. A learned map H → R stands in front, and a trained row has R numbers (none: H numbers and no map)"
    )
    walsh_tied: bool = option(False, "add to the input vector of each word the trained row of its family")
    learned_words: Natural = option(0, LEARNED_WORDS)

    def arguments(self, prepared: OutputMatrix | Codebook | None, prepared_with: Any) -> dict[str, Any]:
        import torch

        return {
            "slots": torch.from_numpy(prepared.slots),  # type: ignore[union-attr]
            "families": prepared_with.families,
            "halves": prepared_with.halves,
            "basis": self.walsh_basis,
            "rank": self.walsh_rank,
            "tied": self.walsh_tied,
            "learned_words": self.learned_words,
            "in_state_dict": False,
        }

    def problems(self, sizes: Mapping[str, int], prepared_with: Any) -> Iterator[InputError]:
        # Families by rank or at random are as even as can be whatever their limit.
        usual = type(prepared_with)()
        for name in ("family_size", "pmi_dim"):
            if getattr(prepared_with, name) != getattr(usual, name) and prepared_with.positions != "pmi":
                yield InputError(
                    f"walsh_{name}",
                    "it is of families by PMI vectors",
                    found=f"--walsh-positions {prepared_with.positions}",
                    fix="remove the flag, or choose --walsh-positions pmi",
                )
        if self.walsh_rank and self.walsh_rank >= sizes["hidden_size"]:
            what, fix = "a map to so many numbers saves nothing", "remove the flag, or lower it"
            expected = f"less than {sizes['hidden_size']}"
            yield InputError("walsh_rank", what, found=self.walsh_rank, expected=expected, fix=fix)
        if not self.walsh_tied:
            return
        halves = prepared_with.halves
        for name, found, needed in (
            ("walsh_basis", self.walsh_basis, "families"),
            ("walsh_halves", halves, "both or shared" if halves == "own" else halves),
            ("embed_size", sizes["embed_size"], self.walsh_rank or sizes["hidden_size"]),
        ):
            if found != needed:
                flag = name.replace("_", "-")
                what = f"--walsh-tied reads the rows of families as input vectors, which needs --{flag} {needed}"
                yield InputError(name, what, found=found)

    def tensor_shapes(self, hidden_size: int, vocabulary_size: int, prepared_with: Any) -> Shapes:
        rows = prepared_with.families * (2 if prepared_with.halves == "both" else 1)
        width = self.walsh_rank or hidden_size
        shapes: Shapes = {"bias": (vocabulary_size,), "weight": (rows, width)}
        if self.walsh_rank:
            shapes["map.weight"] = (width, hidden_size)
        if self.learned_words:
            shapes |= {"head_words": (self.learned_words,), "head": (self.learned_words, width)}
        return shapes
