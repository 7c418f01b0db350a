"""The model of a run directory, as of one of its checkpoints."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from embeddings.builder import Prepared, kind_of
from fixlm.config.train_config import TrainConfig
from fixlm.errors import InputError
from fixlm.model.core import core_class
from fixlm.model.language_model import LanguageModel
from fixlm.runs import checkpoint
from fixlm.runs.checkpoint import Checkpoint
from fixlm.runs.directory import RunDirectory
from fixlm.runs.new_model import assemble, vectors_of

INPUT = "input_embedding.weight"


def load_model(run: RunDirectory, saved: Checkpoint | None = None) -> LanguageModel:
    """The model of a run as of a checkpoint, ``best`` if none is given.

    Raises:
        InputError: there is no checkpoint, it is damaged, or the output matrix is not the run's.
    """
    values = run.read_config()
    config = TrainConfig.from_json(values)
    tensors = (saved or find_checkpoint(run)).model()
    matrix = read_matrix(run) if has_matrix(values, config) else None
    shared = vectors_of(matrix) if config.reads_output_matrix else None
    if shared is not None:
        tensors.setdefault(INPUT, shared)  # an exported run has it once
    _require_fit(run, config, tensors, values["corpus"]["vocabulary_size"])
    # The same method gives other rows where N is not the length of an input vector.
    start = shared if shared is not None and torch.equal(tensors[INPUT], shared) else tensors[INPUT]
    model = assemble(config, values["corpus"]["vocabulary_size"], matrix, start, None)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise _misfit(run, error) from None
    return model


def has_matrix(values: Mapping[str, Any], config: TrainConfig) -> bool:
    """Whether a run keeps what was prepared for its output layer; ``values`` are its ``config.json``."""
    layer = config.layer
    return layer.method is not None and not (layer.by_rule and values["output_matrix"] is None)


def find_checkpoint(run: RunDirectory, name: str = "best") -> Checkpoint:
    """The checkpoint ``best``, ``last`` or ``step-N`` of a run, compared with its manifest.

    Raises:
        InputError: there is none of that name, or it is damaged.
    """
    exported = run.read_config().get("export")
    if exported and name == "best":
        return checkpoint.verify_exported(run.path, exported["model_sha256"])
    path = checkpoint.find(run.checkpoints, name)
    if path is None and exported:
        raise InputError(run.path, f"has no checkpoint '{name}', since it was exported", expected="best")
    if path is None:
        there = [*checkpoint.LINKS, *sorted(entry.name for entry in run.checkpoints.glob("step-*"))]
        expected = ", ".join(entry for entry in there if checkpoint.find(run.checkpoints, entry))
        raise InputError(
            run.path, f"has no checkpoint '{name}'", expected=expected or None, fix="train it first, or --resume it"
        )
    return checkpoint.verify(path)


def read_matrix(run: RunDirectory) -> Prepared:
    """What was prepared for the output layer of a run, compared with the hash in its ``config.json``.

    Raises:
        InputError: the layer has none, or the file is missing or another one.
    """
    values = run.read_config()
    recipe, method = values["output_matrix"], TrainConfig.from_json(values).layer.method
    if recipe is None or method is None:
        raise InputError(run.config, "names no output matrix for this output layer", found="output_matrix null")
    matrix = kind_of(method).load(run.output_matrix)
    if matrix.sha256 != recipe["sha256"]:
        what = "not the matrix of this run"
        raise InputError(run.output_matrix, what, found=matrix.sha256, expected=recipe["sha256"])
    return matrix


def _require_fit(run: RunDirectory, config: TrainConfig, tensors: dict[str, Tensor], vocabulary_size: int) -> None:
    """Holds the sizes that ``config.json`` claims against the tensors, before anything of such a size is made."""
    model = config.model
    embedding = tensors.get(INPUT, torch.empty(0))
    width = model.embed_size if config.input_matrix() is None else embedding.shape[-1]  # else a matrix's
    expected: dict[str, tuple[int, ...]] = {INPUT: (vocabulary_size, width)}
    make: Any = core_class(model.core)
    options = {"last_hidden_size": model.feature_size, "weight_drop": 0.0}
    with torch.device("meta"):  # which has shapes and no memory
        core = make(model.embed_size, model.hidden_size, model.num_layers, 0.0, **options)
    expected |= {f"{model.core}.{name}": tuple(tensor.shape) for name, tensor in core.state_dict().items()}
    own = config.output.tensor_shapes(model.feature_size, vocabulary_size, config.prepared_with())
    expected |= {f"output.{name}": shape for name, shape in own.items()}
    for name, shape in expected.items():
        if name not in tensors or tuple(tensors[name].shape) != shape:
            found = f"{name} {list(tensors[name].shape)}" if name in tensors else f"no {name}"
            raise _misfit(run, found, list(shape))
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise _misfit(run, f"{name} of {tensor.dtype}", torch.float32)


def _misfit(run: RunDirectory, found: object, expected: object = None) -> InputError:
    return InputError(run.path, "the checkpoint does not fit config.json", found=found, expected=expected)
