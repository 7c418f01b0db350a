"""Everything that describes a training run; each field is a flag of ``python -m fixlm.train``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import embeddings
from fixlm import output
from fixlm.config.command_line import check_options, option, read_options
from fixlm.config.contradictions import contradictions
from fixlm.config.presets import RECIPES, fill_in
from fixlm.errors import InputError, InputErrors


@dataclass(frozen=True)
class DataConfig:
    """The text and how it is cut into words."""

    data: str = option(
        "auto", "wikitext-2, sample (built in), a folder with train.txt, valid.txt, test.txt, or auto"
    )
    tokenizer: str = option("word", "word, sentencepiece (trained on the train split) or a .model file")
    tokenizer_type: str = option("unigram", "kind of sentencepiece model", choices=("unigram", "bpe"))
    vocab_size: int | None = option(
        None, "number of pieces, for --tokenizer sentencepiece (none: 4,000)", minimum=2
    )


@dataclass(frozen=True)
class ModelConfig:
    """The network."""

    output_embed: str = option("pmi", "output layer: %(layers)s, or a path to vectors")
    input_embed: str = option(
        "learned",
        "input embedding: learned, same (starts at the output matrix), fixed (the output matrix, frozen), "
        "a method or a path (that matrix, frozen); walsh has no such matrix, and takes that of pmi",
    )
    input_start: str = option(
        "random", "where a learned input embedding starts: random, or at the matrix of a method or a path"
    )
    input_start_scale: float = option(
        1.0,
        "what a learned input embedding starts at is multiplied by this: large vectors change slowly for their length "
        "(rows of a matrix have norm 1)",
        above=0,
    )
    output_start: str = option(
        "random",
        "learned, walsh: where their matrix starts: random, or at that of a method or a path (walsh: a family at its "
        "most frequent word, its words alike)",
    )
    output_start_scale: float = option(
        1.0, "learned, walsh: what their matrix starts at is multiplied by this", above=0
    )
    num_layers: int = option(2, "LSTM layers", minimum=1, maximum=100)
    hidden_size: int = option(512, "H, units of each LSTM layer", minimum=1)
    last_hidden_size: int | None = option(None, "units of the last LSTM layer (none: H)", minimum=1)
    embed_size: int = option(512, "E, length of an input embedding", minimum=1)
    output_dim: int | None = option(
        None, "N, length of a row of the output matrix (none: units of the last LSTM layer)", minimum=1
    )
    output_map: str = option(
        "auto",
        "fixed matrices: learned map H → N in front of Q; auto: linear, where H and N differ; mlp: H → K → N with "
        "GELU between",
        choices=("auto", "linear", "mlp"),
    )
    output_map_size: int | None = option(None, "K of --output-map mlp (none: 4·H)", minimum=1)
    word_scales: bool = option(False, "fixed matrices: learn a scale of each word's row (not of hadamard)")
    walsh_basis: str = option(
        "families",
        "walsh: a row of what it trains stands for a family, or for a bit of the codes (same logits, other steps)",
        choices=("families", "codes"),
    )
    walsh_tied: bool = option(
        False, "walsh: the input vector of a word is the sum of its own and the row of its family in W"
    )
    matrix_seed: int = option(1, "seed of the output and input matrix", minimum=0, maximum=2**32 - 1)
    dropout: float = option(0.1, "locked dropout where none of the next three is given", minimum=0, below=1)
    dropout_input: float | None = option(None, "of the input embedding", minimum=0, below=1)
    dropout_between: float | None = option(None, "between the LSTM layers", minimum=0, below=1)
    dropout_output: float | None = option(None, "of what the output layer reads", minimum=0, below=1)
    dropout_embedding: float = option(
        0.0,
        "share of the words whose input vector is 0 for a window, wherever they stand",
        minimum=0,
        below=1,
    )
    weight_drop: float = option(
        0.0, "share of the recurrent weights (hidden to hidden) that are 0 for a window", minimum=0, below=1
    )
    normalize: bool = option(True, "fixed layers: read x/‖x‖ instead of x")
    alpha: float | None = option(None, "fixed layers: hold α at this value (none: learned)", above=0)
    alpha_start: float = option(16.0, "fixed layers: where a learned α starts", above=0)
    bias_start: str = option(
        "unigram", "output bias starts at the log unigram probability or at 0", choices=("unigram", "zero")
    )

    @property
    def feature_size(self) -> int:
        """Units of the last LSTM layer, which the output layer reads."""
        return self.last_hidden_size or self.hidden_size


@dataclass(frozen=True)
class OptimizationConfig:
    """How it is trained."""

    recipe: str = option(
        "fast",
        "values of the flags that are not given: fast (the defaults) or awd (below)",
        choices=tuple(RECIPES),
    )
    fine_tune: str | None = option(None, "directory of a run whose best weights this one starts from")
    epochs: int = option(1, "passes over the train split", minimum=1)
    max_steps: int | None = option(None, "stop after this many steps, if that is sooner", minimum=1)
    batch_size: int = option(40, "B, streams trained side by side", minimum=1)
    bptt: int = option(70, "T, time steps of a window", minimum=1)
    vary_bptt: bool = option(
        False,
        "windows of random length, at least 5: N(T, 5), or N(T/2, 5) once in 20; each with lr · length/T",
    )
    optimizer: str = option("adamw", "adamw, or sgd without momentum", choices=("adamw", "sgd"))
    lr: float = option(6e-3, "learning rate at its highest", above=0, maximum=100)
    output_lr: float = option(
        1.0,
        "learning rate of the output layer's own matrices (W, A, P), as a part of --lr",
        above=0,
        maximum=100,
    )
    schedule: str = option(
        "cosine", "learning rate after the warm-up: cosine or constant", choices=("cosine", "constant")
    )
    beta1: float = option(0.9, "AdamW", minimum=0, below=1)
    beta2: float = option(0.99, "AdamW", minimum=0, below=1)
    warmup_steps: int = option(100, "steps of linear warm-up (at most a quarter of the run)", minimum=0)
    final_lr: float = option(0.02, "part of --lr left at the last step of the cosine", minimum=0, maximum=1)
    clip: float = option(0.5, "largest norm of the gradient", above=0)
    weight_decay: float = option(0.01, "on matrices (biases have none)", minimum=0, maximum=10)
    alpha_weight_decay: float | None = option(
        None, "on α (none: as --weight-decay, like the classifier it replaces)", minimum=0, maximum=10
    )
    ar: float = option(
        0.0,
        "activation regularization: this, times the mean square of what the output layer reads",
        minimum=0,
    )
    tar: float = option(
        0.0, "temporal: this, times the mean square of the last layer's change from step to step", minimum=0
    )
    average: str = option(
        "none",
        "what is scored and kept in place of the weights: ema, their exponential moving average; nt-asgd, their mean "
        "since validation stopped improving",
        choices=("none", "ema", "nt-asgd"),
    )
    ema_decay: float = option(0.999, "of --average ema", above=0, below=1)
    nonmono: int = option(
        5,
        "nt-asgd begins when a validation is worse than the best of those more than this many before it",
        minimum=1,
    )
    patience: int | None = option(
        None, "stop when none of this many validations is better than those before (none: never)", minimum=1
    )
    precision: str = option(
        "float32",
        "type of the matrix products in training, those of LSTM and output layer",
        choices=("float32", "bfloat16"),
    )
    seed: int = option(1, "of weights and dropout", minimum=0, maximum=2**32 - 1)


@dataclass(frozen=True)
class RunConfig:
    """Where it runs and what is kept of it; none of this changes what is learned."""

    run: str | None = option(None, "run directory (none: runs/ and a name from data, layer, size and seed)")
    resume: bool = option(False, "go on with the run in that directory")
    validate_every: int | None = option(None, "steps between validations (none: an epoch)", minimum=1)
    checkpoint_every: int | None = option(None, "steps between checkpoints (none: at validations)", minimum=1)
    threads: int | None = option(None, "threads of torch (none: its default)", minimum=1, maximum=1024)
    device: str = option("cpu", "cpu, cuda, cuda:1, mps, …")


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    ``matrices`` holds the options of the output-matrix methods the run uses, by method.
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)
    run: RunConfig = field(default_factory=RunConfig)
    matrices: Mapping[str, Any] = field(default_factory=dict)

    def matrix_options(self, method: str) -> Any:
        """The options of a method, its defaults where none were given."""
        return self.matrices.get(method) or embeddings.get(method).Options()

    def dropout(self, where: str) -> float:
        """The rate at ``input``, ``between`` or ``output``."""
        rate = getattr(self.model, f"dropout_{where}")
        return self.model.dropout if rate is None else rate

    def to_json(self) -> dict[str, Any]:
        """Nested plain values: what `from_json` reads, without the `RunConfig`."""
        groups = {name: dataclasses.asdict(getattr(self, name)) for name in ("data", "model", "optimization")}
        options = {method: dataclasses.asdict(self.matrix_options(method)) for method in self.methods()}
        return {**groups, "matrices": options}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], run: RunConfig | None = None) -> TrainConfig:
        """The configuration that `to_json` gave.

        Raises:
            InputErrors: with each value that no flag could have had.
            KeyError, TypeError, AttributeError: it is nothing like a configuration.
        """
        # What runs did before there was a flag for it is not always today's default.
        if values["model"]["output_embed"] == "walsh":
            values = {**values, "model": {"walsh_basis": "codes", **values["model"]}}
        groups = {name: kind(**values[name]) for name, kind in GROUPS.items() if name != "run"}
        matrices = {
            method: embeddings.get(method).Options(**{**BEFORE.get(method, {}), **given})
            for method, given in values["matrices"].items()
        }
        errors = [error for part in groups.values() for error in check_options(part)]
        errors += [error for method, part in matrices.items() for error in check_options(part, method)]
        InputErrors.raise_if_any(errors)
        return cls(**groups, run=run or RunConfig(), matrices=matrices)

    def methods(self) -> list[str]:
        """The output-matrix methods that this run needs, each once."""
        model = self.model
        chosen = (model.output_embed, self.input_matrix(), model.output_start)
        others = (*output.TRAINED, "same", "random", None)
        return sorted({method_of(name) for name in chosen if name not in others})

    def input_matrix(self) -> str | None:
        """What the input embedding is or starts at: a method, a path, ``same`` for the output matrix, None for nothing.

        With walsh, which has no (V, N) matrix to share, ``same`` and ``fixed`` mean pmi.
        """
        model = self.model
        if model.input_embed == "learned":
            return None if model.input_start == "random" else model.input_start
        if model.input_embed in ("same", "fixed"):
            return "pmi" if model.output_embed == "walsh" else "same"
        return model.input_embed


BEFORE: dict[str, dict[str, Any]] = {"pmi": {"discount": 0.0}, "walsh": {"pmi_discount": 0.0}}
"""Options of a matrix where the configuration of a run is older than their flag."""

GROUPS: dict[str, type[Any]] = {
    "data": DataConfig,
    "model": ModelConfig,
    "optimization": OptimizationConfig,
    "run": RunConfig,
}


def method_of(embed: str) -> str:
    """The method that makes the matrix named on the command line: its own name, or ``pretrained`` for a path."""
    return embed if embed in embeddings.names() else "pretrained"


def read_config(given: Mapping[str, Any]) -> TrainConfig:
    """The configuration that the flags describe.

    Raises:
        InputErrors: with everything that is wrong with it, not only the first.
    """
    parts: dict[str, Any] = {}
    errors: list[InputError] = []
    kinds = [(name, kind, "") for name, kind in GROUPS.items()]
    kinds += [(method, embeddings.get(method).Options, method) for method in embeddings.names()]
    for name, kind, prefix in kinds:
        try:
            parts[name] = read_options(given, kind, prefix)
        except (InputError, InputErrors) as error:
            errors += getattr(error, "errors", [error])
            parts[name] = kind()
    recipe = parts["optimization"].recipe
    parts |= {name: fill_in(parts[name], recipe, given) for name in ("model", "optimization")}
    matrices = {method: parts.pop(method) for method in embeddings.names()}
    config = TrainConfig(**parts, matrices=matrices)
    InputErrors.raise_if_any([*errors, *contradictions(config, given)])
    return config
