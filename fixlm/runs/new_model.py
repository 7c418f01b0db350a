"""A new language model out of a configuration and a corpus."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from embeddings.builder import Prepared, prepare
from embeddings.output_matrix import OutputMatrix
from embeddings.registry import Progress
from fixlm import output
from fixlm.cache_directory import cache_directory
from fixlm.config.command_line import flag_name, naming_flags
from fixlm.config.schema import ModelConfig
from fixlm.config.train_config import TrainConfig
from fixlm.errors import InputError
from fixlm.model.embedding import input_embedding
from fixlm.model.language_model import LanguageModel
from fixlm.output.registry import FROM_FILE, method_of

if TYPE_CHECKING:
    from fixlm.corpus.corpus import Corpus


def new_model(
    config: TrainConfig, corpus: Corpus, progress: Progress | None = None
) -> tuple[LanguageModel, Prepared | None]:
    """An untrained model and what was prepared for its output layer, if anything.

    The learned weights come from torch's random state.

    Raises:
        InputError: a matrix cannot be built as the flags ask, or does not fit the model.
    """
    model, options = config.model, config.output
    prepared = None
    if config.layer.method is not None:
        asked = getattr(options, "output_dim", None)
        dim, flag = (asked, "--output-dim") if asked else (model.feature_size, feature_flag(model))
        prepared = build_matrix(model.output_embed, dim, config, corpus, progress, flag, exact=asked is not None)
    start = None  # of the input embedding, where it does not start at random
    embed = config.input_matrix()
    if embed == "same":
        start = prepared
    elif embed is not None:
        start = build_matrix(embed, model.embed_size, config, corpus, progress, "--embed-size")
    unigram = torch.from_numpy(corpus.log_unigram()) if model.bias_start == "unigram" else None
    by_frequency = torch.from_numpy(np.argsort(-corpus.counts, kind="stable"))
    with naming_flags(options):
        built = assemble(config, len(corpus), prepared, vectors_of(start), unigram, by_frequency)
    if model.input_start_scale != 1:
        with torch.no_grad():
            built.input_embedding.weight.mul_(model.input_start_scale)
    _start_output(built, config, corpus, progress)
    return built, prepared


def _start_output(model: LanguageModel, config: TrainConfig, corpus: Corpus, progress: Progress | None) -> None:
    """Gives the trained matrix of the output layer its start, where the layer has one and the flags ask for it."""
    options = config.output
    start, scale = getattr(options, "output_start", "random"), getattr(options, "output_start_scale", 1)
    rank = getattr(options, "walsh_rank", None)
    size, flag = (rank, "--walsh-rank") if rank else (config.model.feature_size, feature_flag(config.model))
    if start != "random":
        rows = vectors_of(build_matrix(start, size, config, corpus, progress, flag))
        assert rows is not None
        if rows.shape[1] != size:
            asked = "--walsh-rank says" if rank else "the last recurrent layer is wide"
            what = f"its rows are not as long as {asked}"
            raise InputError("--output-start", what, found=rows.shape[1], expected=size)
        model.output.start_at(rows)
    if scale != 1:
        model.output.scale_start(scale)


def build_matrix(
    embed: str,
    dim: int | None,
    config: TrainConfig,
    corpus: Corpus,
    progress: Progress | None = None,
    dim_flag: str = "--output-dim",
    *,
    exact: bool = False,
) -> Prepared:
    """What a name or a path on the command line stands for, from the cache where it was built before.

    Args:
        dim: N.
        dim_flag: the flag that N comes from, for errors.
        exact: a file of vectors must have this N; else it brings its own, and a learned map joins the two.
    """
    method = method_of(embed)
    options = config.matrix_options(method)
    if method == FROM_FILE:
        options = dataclasses.replace(options, file=embed)
        dim = dim if exact else None
    with naming_flags(options, method, dim=dim_flag):
        return prepare(
            method,
            corpus.statistics(),
            dim,
            config.model.matrix_seed,
            options,
            progress,
            directory=cache_directory() / "matrices",
        )


def assemble(
    config: TrainConfig,
    vocabulary_size: int,
    prepared: Prepared | None,
    input_vectors: Tensor | None,
    unigram: Tensor | None,
    by_frequency: Tensor | None = None,
) -> LanguageModel:
    """The modules of a model put together.

    Args:
        vocabulary_size: V.
        prepared: what the output layer is made of.
        input_vectors: (V, E) start of the input embedding; random if None.
        unigram: (V,) start of the output bias; zeros if None.
        by_frequency: (V,) ids of the words, the most frequent first; None where a checkpoint follows, which has them.
    """
    model = config.model
    frozen = model.input_embed not in ("learned", "same")
    embedding = input_embedding(vocabulary_size, model.embed_size, input_vectors, frozen=frozen)
    precision = torch.bfloat16 if config.optimization.precision == "bfloat16" else None
    layer = output.build(
        model.output_embed if model.output_embed in output.names() else FROM_FILE,
        model.feature_size,
        vocabulary_size,
        input_embedding=embedding,
        log_unigram=unigram,
        by_frequency=by_frequency,
        precision=precision,
        **config.output.arguments(prepared, config.prepared_with()),
    )
    return LanguageModel(
        embedding,
        model.hidden_size,
        layer,
        embed_size=model.embed_size,
        core=model.core,
        num_layers=model.num_layers,
        last_hidden_size=model.last_hidden_size,
        dropout_input=config.dropout("input"),
        dropout_between=config.dropout("between"),
        dropout_output=config.dropout("output"),
        dropout_embedding=model.dropout_embedding,
        weight_drop=model.weight_drop,
        precision=precision,
    )


def vectors_of(prepared: Prepared | None) -> Tensor | None:
    """The rows (V, N) of a matrix; None for anything else."""
    return torch.from_numpy(prepared.vectors) if isinstance(prepared, OutputMatrix) else None


def feature_flag(model: ModelConfig) -> str:
    """The flag that sets the units of the last recurrent layer."""
    return flag_name("hidden_size" if model.last_hidden_size is None else "last_hidden_size")
