"""Puts a model together: from a configuration and a corpus, or from a run directory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import embeddings
from embeddings.output_matrix import OutputMatrix
from embeddings.registry import Progress
from fixlm import checkpoint, output
from fixlm.cache import cache_directory
from fixlm.config import TrainConfig, method_of
from fixlm.corpus import Corpus
from fixlm.errors import InputError
from fixlm.model import LanguageModel, input_embedding
from fixlm.perplexity import log_unigram
from fixlm.run import RunDirectory


def build_matrix(
    embed: str, dim: int | None, config: TrainConfig, corpus: Corpus, progress: Progress | None = None
) -> OutputMatrix:
    """The matrix that ``--output-embed`` or ``--input-embed`` names, from the cache where it was built before."""
    method = method_of(embed)
    options = config.matrix_options(method)
    if method == "pretrained":
        options = dataclasses.replace(options, file=embed)
        dim = None if config.model.output_dim is None else dim
    return embeddings.build_cached(
        method,
        corpus.statistics(),
        dim,
        config.model.matrix_seed,
        options,
        progress,
        directory=cache_directory() / "matrices",
    )


def new_model(
    config: TrainConfig, corpus: Corpus, progress: Progress | None = None
) -> tuple[LanguageModel, OutputMatrix | None]:
    """An untrained model and its output matrix; the learned weights come from torch's random state."""
    model = config.model
    matrix = None
    if model.output_embed not in output.TRAINED:
        matrix = build_matrix(
            model.output_embed, model.output_dim or model.hidden_size, config, corpus, progress
        )
    output_vectors = None if matrix is None else torch.from_numpy(matrix.vectors)
    vectors, frozen = None, model.input_embed not in ("learned", "same")
    if model.input_embed in ("same", "fixed"):
        vectors = output_vectors
    elif model.input_embed != "learned":
        built = build_matrix(model.input_embed, model.embed_size, config, corpus, progress)
        vectors = torch.from_numpy(built.vectors)
    unigram = torch.from_numpy(log_unigram(corpus.counts)) if model.bias_start == "unigram" else None
    return _assemble(config, len(corpus.words), output_vectors, vectors, frozen, unigram), matrix


def load_model(
    run: RunDirectory, link: str = "best", log: Callable[[str], None] | None = None
) -> LanguageModel:
    """The model of a run as of its checkpoint ``best``, ``last`` or ``step-N``, in evaluation mode.

    Raises:
        InputError: there is no such checkpoint, it is damaged, or the output matrix is not the run's.
    """
    values = run.read_config()
    config = TrainConfig.from_json(values)
    if not (run.checkpoints / link).exists():
        raise InputError(run.path, f"has no checkpoint '{link}' yet", fix="train it first, or --resume it")
    saved = checkpoint.verify(_resolved(run.checkpoints / link)).model()
    vectors = None
    if values["output_matrix"] is not None:
        matrix = read_matrix(run)
        vectors = torch.from_numpy(matrix.vectors)
    embedding = saved["input_embedding.weight"]
    model = _assemble(config, len(embedding), vectors, embedding, True, None)
    try:
        model.load_state_dict(saved)
    except RuntimeError as error:
        raise InputError(run.path, "the checkpoint does not fit config.json", found=error) from None
    return model.eval()


def read_matrix(run: RunDirectory) -> OutputMatrix:
    """The output matrix of a run, compared with the hash in its ``config.json``."""
    expected = run.read_config()["output_matrix"]["sha256"]
    matrix = OutputMatrix.load(run.output_matrix)
    if matrix.sha256 != expected:
        raise InputError(
            run.output_matrix, "not the matrix of this run", found=matrix.sha256, expected=expected
        )
    return matrix


def _assemble(
    config: TrainConfig,
    vocabulary_size: int,
    output_vectors: Tensor | None,
    input_vectors: Tensor | None,
    frozen: bool,
    unigram: Tensor | None,
) -> LanguageModel:
    model = config.model
    embedding = input_embedding(vocabulary_size, model.embed_size, input_vectors, frozen=frozen)
    precision = getattr(torch, config.optimization.precision)
    options: dict[str, Any] = {
        "log_unigram": unigram,
        "precision": None if precision == torch.float32 else precision,
    }
    if model.output_embed not in output.TRAINED:
        options |= {"alpha": model.alpha, "alpha_start": model.alpha_start, "normalize": model.normalize}
    layer = output.build(
        model.output_embed if model.output_embed in output.TRAINED else method_of(model.output_embed),
        model.hidden_size,
        vocabulary_size,
        vectors=output_vectors,
        input_embedding=embedding,
        **options,
    )
    return LanguageModel(
        embedding,
        model.hidden_size,
        layer,
        embed_size=model.embed_size,
        dropout_input=config.dropout("input"),
        dropout_between=config.dropout("between"),
        dropout_output=config.dropout("output"),
    )


def _resolved(path: Path) -> Path:
    return path.resolve() if path.is_symlink() else path
