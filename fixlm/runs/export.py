"""A run as a folder to share: the files of its directory, with one ``model.safetensors`` in place of ``checkpoints/``.

``config.json`` has one more key, ``export``, with the hash of the weights. A model card and the output matrix as
word2vec text are there for others: fixlm reads neither. A matrix that the output layer and the input embedding share
is in one of the files alone. The names are those that the Hugging Face hub expects.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from embeddings.files import write_atomically, write_json
from embeddings.output_matrix import save_word2vec
from fixlm.config.train_config import TrainConfig
from fixlm.errors import InputError
from fixlm.model.language_model import LanguageModel
from fixlm.runs.directory import RunDirectory
from fixlm.runs.load_model import INPUT, find_checkpoint, has_matrix, read_matrix
from fixlm.runs.model_card import model_card
from fixlm.runs.new_model import vectors_of

CARD = "README.md"
VECTORS = "output_vectors.txt"


def export(
    run: RunDirectory, model: LanguageModel, to: str | os.PathLike[str], *, vectors: bool = True
) -> dict[str, int]:
    """Writes the folder; an older export there is replaced, and files that are not of an export are left alone.

    Args:
        run: whose configuration, vocabulary and figures are written.
        model: whose weights are written. The figures are left out where the weights are not those of the best
            checkpoint.
        vectors: whether the output matrix is written as word2vec text.

    Returns:
        The names of the files that were written, with their bytes.

    Raises:
        InputError: the folder holds something else.
        OSError: it cannot be written.
    """
    target = RunDirectory(to)
    require_free(run, target)
    values = run.read_config()
    weights = {name: _as_stored(tensor) for name, tensor in model.state_dict().items()}
    are_best = run.read_result() is not None and _same(weights, find_checkpoint(run).model())
    content = safetensors.torch.save(_without_shared(run, weights, values), metadata={"format": "pt"})
    matrix = _word_vectors(model) if vectors else None

    target.path.mkdir(parents=True, exist_ok=True)
    # First, since it tells an export: one that was cut short can be made again.
    exported = {"model_sha256": hashlib.sha256(content).hexdigest()}
    write_json(target.config, without_places(values) | {"export": exported})
    write_atomically(target.model, content)
    copied = [run.vocabulary, run.output_matrix, run.tokenizer, run.metrics, *([run.result] if are_best else [])]
    for path in copied:
        if path.is_file():
            write_atomically(target.path / path.name, path.read_bytes())
    if matrix is not None:
        save_word2vec(target.path / VECTORS, run.words(), matrix)
    card = model_card(target.path.resolve().name, values, run.read_result() if are_best else None, matrix, VECTORS)
    write_atomically(target.path / CARD, card.encode())

    names = [target.config.name, target.model.name, CARD, *(path.name for path in copied if path.is_file())]
    names += [] if matrix is None else [VECTORS]
    for path in [*target.files, target.path / VECTORS]:  # of an older export
        if path.name not in names:
            path.unlink(missing_ok=True)
    return {name: (target.path / name).stat().st_size for name in names}


def require_free(run: RunDirectory, target: RunDirectory) -> None:
    """Raises InputError unless a folder is new or empty, or holds an export that is not this run itself."""
    path = target.path
    fix = "choose another folder"
    if path.exists() and not path.is_dir():
        raise InputError(path, "is a file", expected="a folder that is new, empty or an export", fix=fix)
    if path.is_dir() and path.resolve() == run.path.resolve():
        raise InputError(path, "the run would be written over itself", fix=fix)
    if path.is_dir() and any(path.iterdir()) and not is_export(target):
        raise InputError(path, "the folder is not empty, and is no run that was exported", fix=fix)


def is_export(folder: RunDirectory) -> bool:
    """Whether there is a run that was exported in the folder, or the beginning of one."""
    try:
        return "export" in folder.read_config()
    except InputError:
        return False


def _as_stored(tensor: Tensor) -> Tensor:
    """In memory of the CPU, and in float32 whatever type the model was turned to since it was opened."""
    tensor = tensor.detach().cpu().contiguous()
    return tensor.float() if tensor.is_floating_point() else tensor


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether weights are those of a checkpoint, which may lack a matrix that they share."""
    return {*one} - {INPUT} == {*other} - {INPUT} and all(torch.equal(one[name], other[name]) for name in other)


def _without_shared(run: RunDirectory, weights: Mapping[str, Tensor], values: dict[str, Any]) -> dict[str, Tensor]:
    """The weights without an input embedding that is the fixed output matrix, which has a file of its own."""
    config = TrainConfig.from_json(values)
    if config.reads_output_matrix and has_matrix(values, config):
        vectors = vectors_of(read_matrix(run))
        if vectors is not None and torch.equal(vectors, weights[INPUT]):
            return {name: tensor for name, tensor in weights.items() if name != INPUT}
    return dict(weights)


def _word_vectors(model: LanguageModel) -> np.ndarray | None:
    """W of logits = W f(x) + b, a row a word: (V, D) float32; None for a layer that has no such matrix."""
    try:
        return model.output.word_matrix().detach().float().cpu().numpy()
    except InputError:
        return None


def without_places(values: Any) -> Any:
    """The configuration with ``./NAME`` in place of each absolute path: where files lay is nobody else's matter."""
    if isinstance(values, dict):
        return {key: without_places(value) for key, value in values.items()}
    if isinstance(values, list):
        return [without_places(value) for value in values]
    return f"./{Path(values).name}" if isinstance(values, str) and os.path.isabs(values) else values
