"""The output layers, by the name that ``--output-embed`` takes.

This is the only module that knows which layers there are. To add one: write its file, and add its line to `_LAYERS`.
A matrix of `embeddings` (or a path to vectors) needs no line: it makes a fixed layer. Looking at the registry imports
no torch; a layer's module is imported when the first layer of its kind is built.
"""

from __future__ import annotations

import dataclasses
import os
import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import embeddings
from embeddings.errors import unknown_name

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fixlm.output.layer import OutputLayer
    from fixlm.output.options import LayerOptions

FROM_FILE = "pretrained"
"""The method of `embeddings` that reads a file of vectors: what a path stands for."""


@dataclass(frozen=True)
class LayerEntry:
    """What the rest of the program knows of an output layer.

    Args:
        target: ``module:class`` of the layer, which is imported when the first one is built.
        options_target: ``module:class`` of its options; each field is a flag.
        method: the method of `embeddings` that prepares from the text what the layer is built from; None: nothing.
        input_matrix: what ``--input-embed same`` and ``fixed`` mean beside it: ``same`` for the layer's own matrix, or
            a method; None: there is no matrix to share.
        trains_input: the layer trains the input embedding, which therefore cannot be frozen.
        by_rule: the layer makes its matrix by itself, so that a run directory may lack it.
        lr: the learning rate of a run that is given none.
        reads_folds: the rows of its matrix can be those of a fold in training (`OutputLayer.loss_in_folds`).
    """

    target: str
    options_target: str
    method: str | None = None
    input_matrix: str | None = None
    trains_input: bool = False
    by_rule: bool = False
    lr: float = 6e-3
    reads_folds: bool = False

    def layer(self) -> type[OutputLayer]:
        """The class of the layer, or what has ``create`` in its place; brings torch with it."""
        return cast("type[OutputLayer]", pkgutil.resolve_name(self.target))

    @property
    def options(self) -> type[LayerOptions]:
        """The class of its options."""
        return cast("type[LayerOptions]", pkgutil.resolve_name(self.options_target))


# Options stand in a file of their own, since ``--help`` needs them and does not wait for torch.
_OPTIONS = "fixlm.output.options"
_LAYERS = {
    # A trained matrix wants twice the rate of the others: scripts/studies/learning-rates.toml.
    "learned": LayerEntry("fixlm.output.learned:LearnedOutput", f"{_OPTIONS}:LearnedOptions", lr=0.012),
    "tied": LayerEntry("fixlm.output.learned:TiedOutput", f"{_OPTIONS}:LayerOptions", trains_input=True, lr=0.012),
    "hadamard": LayerEntry(
        "fixlm.output.hadamard:HadamardOutput", f"{_OPTIONS}:ScaledOptions", "hadamard", "same", by_rule=True
    ),
    "walsh": LayerEntry("fixlm.output.walsh:WalshOutput", f"{_OPTIONS}:WalshOptions", "walsh", "pmi"),
    "adaptive": LayerEntry("fixlm.output.adaptive:AdaptiveOutput", f"{_OPTIONS}:AdaptiveOptions", lr=0.012),
}
_FIXED = LayerEntry(
    "fixlm.output.fixed_by_name:FixedByName", f"{_OPTIONS}:FixedOptions", None, "same", reads_folds=True
)


def register(name: str, entry: LayerEntry) -> None:
    """Adds an output layer.

    Raises:
        ValueError: the name is taken.
    """
    if name in names():
        raise ValueError(f"output layer '{name}' is registered already")
    _LAYERS[name] = entry


def names() -> list[str]:
    """What ``--output-embed`` takes besides a path to vectors."""
    methods = [name for name in embeddings.names() if name != FROM_FILE]
    return [*(name for name in _LAYERS if name not in methods), *methods]


def method_of(embed: str) -> str:
    """The method that makes the matrix named on the command line: its own name, or ``pretrained`` for a path."""
    return embed if embed in embeddings.names() else FROM_FILE


def looks_like_path(embed: str) -> bool:
    """Whether it is written as only a path is."""
    return os.path.sep in embed or "." in embed


def can_be_path(embed: str) -> bool:
    """Whether it can be a path to vectors: it is written as one, or such a file is there."""
    return looks_like_path(embed) or os.path.isfile(embed)


def entry(embed: str) -> LayerEntry:
    """The entry of a layer; that of a fixed layer for the name of a matrix or a path."""
    return _LAYERS.get(embed) or dataclasses.replace(_FIXED, method=method_of(embed))


def learning_rates() -> str:
    """The learning rates that layers have where none is given, for ``--help``."""
    own = {name: each.lr for name, each in _LAYERS.items() if each.lr != _FIXED.lr}
    return "".join(f"{name}: {lr:g}, " for name, lr in own.items()) + f"other layers: {_FIXED.lr:g}"


def all_options() -> list[type[LayerOptions]]:
    """The classes of options, each once."""
    return [*dict.fromkeys(each.options for each in (_FIXED, *_LAYERS.values()))]


def build(
    name: str,
    hidden_size: int,
    vocabulary_size: int,
    *,
    vectors: Tensor | None = None,
    output_dim: int | None = None,
    matrix_seed: int = 1,
    input_embedding: nn.Embedding | None = None,
    by_frequency: Tensor | None = None,
    **options: Any,
) -> OutputLayer:
    """An output layer, without a run or a corpus where it needs none.

    Args:
        name: ``learned``, ``tied``, ``walsh`` or the method of an output matrix.
        hidden_size: H.
        vocabulary_size: V.
        vectors: (V, N) the output matrix of a fixed layer; built by the method's rule if None.
        output_dim: N of a matrix that is built here; H if None.
        matrix_seed: seed of a matrix that is built here.
        input_embedding: what ``tied`` shares its weight with.
        by_frequency: (V,) ids of the words, the most frequent first; in order of ids if None.
        options: what the layer's constructor takes (``log_unigram``, ``alpha``, ``normalize``, ``slots``, …).

    Raises:
        InputError: the name is unknown, or the layer lacks vectors or an input embedding.
    """
    if name not in (*names(), FROM_FILE):
        raise unknown_name("output layer", "output layer", name, names())
    from fixlm.output.ingredients import Ingredients

    found = entry(name)
    given = Ingredients(found.method, input_embedding, vectors, output_dim, matrix_seed, by_frequency)
    return found.layer().create(hidden_size, vocabulary_size, given, **options)
