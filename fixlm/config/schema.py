"""Everything that describes a training run; each field is a flag of ``python -m fixlm.train``.

A configuration that is wrong cannot exist: every class checks its values when an object is made, whether flags, Python
or JSON describe it. `fixlm.config.read` makes one from flags.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

from embeddings.errors import InputError
from embeddings.options import Checked, Count, Natural, NonNegative, Positive, Rate, option
from fixlm.model.core import CORES

LearningRate = Annotated[float, Gt(0), Le(100)]
Decay = Annotated[float, Ge(0), Le(10)]
AUTO = "auto"


@dataclass(frozen=True)
class DataConfig(Checked):
    """The text and how it is cut into words."""

    data: str = option(
        AUTO,
        "the text: wikitext-2, wikitext-103, sample (built in), a folder with train.txt, valid.txt and test.txt, or "
        "auto (wikitext-2 where it can be had, else sample)",
        place="first",
    )
    tokenizer: str = option(
        "word",
        "how the text is cut: word (at whitespace), sentencepiece (a model trained on the train split), bytes (of "
        "UTF-8), or the path of a sentencepiece .model file",
    )
    tokenizer_type: Literal["unigram", "bpe"] = option("unigram", "kind of the sentencepiece model")
    vocab_size: Annotated[int, Ge(2), Le(2**32 - 1)] | None = option(
        None, "number of pieces of --tokenizer sentencepiece (none: 4,000)"
    )


@dataclass(frozen=True)
class ModelConfig(Checked):
    """The network up to the output layer."""

    output_embed: str = option("pmi", "the output layer: %(layers)s, or the path of a file of vectors", place="first")
    input_embed: str = option(
        "learned",
        "the input embedding. learned: trained. same: trained, starts at the output matrix. fixed: the output "
        "matrix, not trained. A method or a path: that matrix, not trained. With walsh, same and fixed mean the "
        "matrix of pmi",
    )
    input_start: str = option(
        "random", "initial values of a learned input embedding: random, or the matrix of a method or of a path"
    )
    input_start_scale: Positive = option(
        1.0, "scale of these initial values. The rows of a matrix have norm 1; longer vectors change more slowly"
    )
    core: str = option("lstm", f"recurrent core: {', '.join(CORES)}")
    cross_fit: Natural | None = option(
        None,
        "K. The train split is cut into K folds. Training on a fold reads vectors that were counted without it. "
        "Scoring reads the vectors of the whole split. 0: off (none: 8 for the output matrices pmi, pmi-signs "
        "and cca, 0 for all others)",
        before=0,
    )
    num_layers: Annotated[int, Ge(1), Le(100)] = option(2, "number of recurrent layers")
    hidden_size: Count = option(512, "H, the number of units of each recurrent layer", place="first")
    last_hidden_size: Count | None = option(None, "number of units of the last recurrent layer (none: H)")
    embed_size: Count = option(512, "E, the length of an input vector", place="first")
    matrix_seed: Natural = option(1, "seed of the output matrix and of the input matrix")
    dropout: Rate = option(
        0.1,
        "dropout rate of the input, between the layers and of the output. One mask serves a whole window (locked "
        "dropout)",
        place="first",
    )
    dropout_input: Rate | None = option(None, "dropout rate of the input embedding (none: --dropout)")
    dropout_between: Rate | None = option(None, "dropout rate between the recurrent layers (none: --dropout)")
    dropout_output: Rate | None = option(None, "dropout rate of what the output layer reads (none: --dropout)")
    dropout_embedding: Rate = option(
        0.0, "share of the words whose input vector is 0 in a window, wherever the word stands"
    )
    weight_drop: Rate = option(0.0, "share of the recurrent weights (hidden to hidden) that are 0 in a window")
    bias_start: Literal["unigram", "zero"] = option(
        "unigram", "initial value of the output bias: the log unigram probability of each word, or 0", place="ablation"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cross_fit == 1:
            what, expected = "without its only fold no text is left to count", "0, or 2 and more"
            raise InputError("cross_fit", what, found=1, expected=expected)

    @property
    def feature_size(self) -> int:
        """Units of the last recurrent layer, which the output layer reads."""
        return self.last_hidden_size or self.hidden_size


@dataclass(frozen=True)
class OptimizationConfig(Checked):
    """How the network is trained."""

    recipe: Literal["fast", "awd", "speedrun-100", "speedrun-87"] = option(
        "fast",
        "a named set of values for the flags that are not given. fast: the defaults. The others: see below",
        alias="preset",
    )
    fine_tune: str | None = option(None, "a run directory. Training starts from the best weights of that run")
    epochs: Count = option(1, "number of passes over the train split", place="first")
    max_steps: Count | None = option(None, "training ends after this many steps at the latest")
    batch_size: Count = option(40, "B, the number of streams that are trained side by side", place="first")
    bptt: Count = option(70, "T, the number of time steps in a window", place="first")
    vary_bptt: bool = option(
        False,
        "draw the length of each window: from N(T, 5), once in 20 from N(T/2, 5), at least 5. The learning rate "
        "is multiplied by length/T",
    )
    optimizer: Literal["adamw", "sgd"] = option("adamw", "adamw, or sgd without momentum")
    lr: LearningRate | None = option(None, "highest learning rate (none: %(rates)s)", place="first")
    output_lr: LearningRate = option(
        1.0, "learning rate of the output layer's trained matrix, as a fraction of --lr", place="ablation"
    )
    schedule: Literal["cosine", "constant"] = option(
        "cosine", "the learning rate after the warm-up: a cosine to --final-lr, or constant"
    )
    beta1: Rate = option(0.9, "decay of AdamW's mean of the gradient")
    beta2: Rate = option(0.99, "decay of AdamW's mean of the squared gradient")
    warmup_steps: Natural = option(
        100, "number of steps in which the learning rate rises to --lr, at most a quarter of the run"
    )
    final_lr: Annotated[float, Ge(0), Le(1)] = option(0.02, "learning rate of the last step, as a fraction of --lr")
    clip: Positive = option(0.5, "largest norm of the gradient. A longer gradient is scaled to it")
    weight_decay: Decay = option(0.01, "weight decay of matrices. Biases have none")
    alpha_weight_decay: Decay | None = option(
        None, "weight decay of α (none: that of matrices, since α stands for a classifier)", place="ablation"
    )
    ar: NonNegative = option(0.0, "activation regularization: weight of the mean square of what the output layer reads")
    tar: NonNegative = option(
        0.0,
        "temporal activation regularization: weight of the mean square of how the last layer changes from step to step",
    )
    average: Literal["none", "ema", "nt-asgd"] = option(
        "none",
        "average of the weights that is scored and kept. ema: the exponential moving average. nt-asgd: the mean "
        "since validation stopped improving",
    )
    ema_decay: Annotated[float, Gt(0), Lt(1)] = option(0.999, "decay of --average ema")
    nonmono: Count = option(
        5, "--average nt-asgd begins once validation has not improved for more than this many validations"
    )
    patience: Count | None = option(
        None, "training ends once this many validations in a row have not improved (none: it does not end early)"
    )
    precision: Literal["float32", "bfloat16"] = option(
        "float32",
        "type of the matrix products in training, in the recurrent layers and in the output layer",
        place="first",
    )
    seed: Natural = option(1, "seed of the weights and of dropout", place="first")

    @property
    def peak_lr(self) -> float:
        """``lr``, which is None only until the `TrainConfig` around it knows the output layer."""
        assert self.lr is not None
        return self.lr

    @property
    def validations_decide(self) -> bool:
        """Whether the training itself depends on when it validates: when it ends, or averages its weights."""
        return self.patience is not None or self.average == "nt-asgd"


@dataclass(frozen=True)
class RunConfig(Checked):
    """Where it runs and what is kept of it.

    None of this changes what is learned, but for ``validate_every`` where `OptimizationConfig.validations_decide`.
    """

    run: str | None = option(
        None, "the run directory (none: a name under runs/ made of data, layer, size and seed)", place="first"
    )
    resume: bool = option(False, "continue the run that is in --run", place="first")
    validate_every: Count | None = option(None, "number of steps between validations (none: an epoch)")
    checkpoint_every: Count | None = option(None, "number of steps between checkpoints (none: one at each validation)")
    threads: Annotated[int, Ge(1), Le(1024)] | None = option(None, "number of torch's threads (none: chosen by torch)")
    device: str = option("cpu", "where to train: cpu, cuda, cuda:1, mps, …")
    ngram_order: Natural = option(
        0,
        "n of an n-gram model, counted on the train split. At the end the run is scored mixed with it too, with a "
        "weight chosen on valid (0: none)",
        before=0,
    )


RUN_SETTINGS = ("validate_every", "checkpoint_every", "threads", "device", "ngram_order")
"""Of `RunConfig`, what a resumed run takes over unless told otherwise."""


GROUPS: dict[str, type[Any]] = {
    "data": DataConfig,
    "model": ModelConfig,
    "optimization": OptimizationConfig,
    "run": RunConfig,
}
