"""Puts a model together: from a configuration and a corpus, or from a run directory."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

import embeddings
from embeddings.codebook import Codebook, build_codebook
from embeddings.output_matrix import OutputMatrix
from embeddings.registry import Progress
from fixlm import output
from fixlm.cache_directory import cache_directory
from fixlm.config.command_line import naming_flags
from fixlm.config.schema import ModelConfig, TrainConfig, method_of
from fixlm.corpus.corpus import Corpus, log_unigram
from fixlm.errors import InputError
from fixlm.model.language_model import LanguageModel, input_embedding
from fixlm.output.learned import LearnedOutput
from fixlm.output.walsh import WalshOutput
from fixlm.runs import checkpoint
from fixlm.runs.checkpoint import Checkpoint
from fixlm.runs.directory import RunDirectory


def build_matrix(
    embed: str, dim: int | None, config: TrainConfig, corpus: Corpus, progress: Progress | None = None
) -> OutputMatrix:
    """The matrix that ``--output-embed`` or ``--input-embed`` names, from the cache where it was built before."""
    method = method_of(embed)
    options = config.matrix_options(method)
    if method == "pretrained":
        options = dataclasses.replace(options, file=embed)
        dim = None if config.model.output_dim is None else dim
    with naming_flags(options, method, dim="--output-dim"):
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
) -> tuple[LanguageModel, OutputMatrix | Codebook | None]:
    """An untrained model and its output matrix, if any; the learned weights come from torch's random state."""
    model = config.model
    matrix: OutputMatrix | Codebook | None = None
    if model.output_embed == "walsh":
        matrix = _build_codebook(config, corpus, progress)
    elif model.output_embed not in output.TRAINED:
        matrix = build_matrix(
            model.output_embed, model.output_dim or model.feature_size, config, corpus, progress
        )
    # Of the input embedding, where it does not start at random.
    start: OutputMatrix | Codebook | None = None
    embed = config.input_matrix()
    if embed == "same":
        start = matrix
    elif embed is not None:
        start = build_matrix(embed, model.embed_size, config, corpus, progress)
    unigram = torch.from_numpy(log_unigram(corpus.counts)) if model.bias_start == "unigram" else None
    built = _assemble(config, len(corpus), matrix, _tensor(start), unigram)
    if model.input_start_scale != 1:
        with torch.no_grad():
            built.input_embedding.weight.mul_(model.input_start_scale)
    if model.output_start != "random":
        rows = build_matrix(model.output_start, model.feature_size, config, corpus, progress).vectors
        if rows.shape[1] != model.feature_size:
            what, found = "its rows are not as long as the last LSTM layer is wide", rows.shape[1]
            raise InputError("--output-start", what, found=found, expected=model.feature_size)
        assert isinstance(built.output, LearnedOutput | WalshOutput)
        built.output.start_at(torch.from_numpy(rows))
    if model.output_start_scale != 1:
        assert isinstance(built.output, LearnedOutput | WalshOutput)
        with torch.no_grad():
            built.output.weight.mul_(model.output_start_scale)
    return built, matrix


def load_model(run: RunDirectory, saved: Checkpoint | None = None) -> LanguageModel:
    """The model of a run as of a checkpoint, ``best`` if none is given.

    Raises:
        InputError: there is no checkpoint, it is damaged, or the output matrix is not the run's.
    """
    values = run.read_config()
    config = TrainConfig.from_json(values)
    tensors = (saved or find_checkpoint(run)).model()
    _require_fit(run, config, tensors, values["corpus"]["vocabulary_size"])
    by_rule = config.model.output_embed in (*output.TRAINED, "hadamard")
    matrix = None if by_rule and values["output_matrix"] is None else read_matrix(run)
    shared = config.model.input_embed == "fixed" and isinstance(matrix, OutputMatrix)
    start = _tensor(matrix) if shared else tensors["input_embedding.weight"]
    model = _assemble(config, len(tensors["output.bias"]), matrix, start, None)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise _misfit(run, error) from None
    return model


def find_checkpoint(run: RunDirectory, name: str = "best") -> Checkpoint:
    """The checkpoint ``best``, ``last`` or ``step-N`` of a run, compared with its manifest.

    Raises:
        InputError: there is none of that name, or it is damaged.
    """
    path = checkpoint.find(run.checkpoints, name)
    if path is None:
        there = [*checkpoint.LINKS, *sorted(entry.name for entry in run.checkpoints.glob("step-*"))]
        expected = ", ".join(entry for entry in there if checkpoint.find(run.checkpoints, entry))
        raise InputError(
            run.path,
            f"has no checkpoint '{name}'",
            expected=expected or None,
            fix="train it first, or --resume it",
        )
    return checkpoint.verify(path)


def _require_fit(
    run: RunDirectory, config: TrainConfig, tensors: dict[str, Tensor], vocabulary_size: object
) -> None:
    """Holds the sizes that ``config.json`` claims against the tensors, before anything of such a size is made."""
    model = config.model
    embedding = tensors.get("input_embedding.weight", torch.empty(0))
    width = model.embed_size if config.input_matrix() is None else embedding.shape[-1]  # else a matrix's
    expected: dict[str, tuple[object, ...]] = {
        "input_embedding.weight": (vocabulary_size, width),
        "output.bias": (vocabulary_size,),
    }
    for layer in range(model.num_layers):
        units = model.feature_size if layer == model.num_layers - 1 else model.hidden_size
        inputs = model.embed_size if layer == 0 else model.hidden_size
        expected[f"lstm.weight_ih_l{layer}"] = (4 * units, inputs)
        expected[f"lstm.weight_hh_l{layer}"] = (4 * units, units)
    if model.output_embed not in (*output.TRAINED, "walsh"):
        expected |= _fixed_shapes(model, vocabulary_size)
    for name, shape in expected.items():
        if name not in tensors or tuple(tensors[name].shape) != shape:
            found = f"{name} {list(tensors[name].shape)}" if name in tensors else f"no {name}"
            raise _misfit(run, found, list(shape))
    if model.output_embed == "walsh":
        families, rows = config.matrix_options("walsh").families, len(tensors.get("output.weight", ()))
        if families > rows:
            raise _misfit(run, f"output.weight of {rows} rows", f"at least the {families} families")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise _misfit(run, f"{name} of {tensor.dtype}", torch.float32)


def _fixed_shapes(model: ModelConfig, vocabulary_size: object) -> dict[str, tuple[object, ...]]:
    """The shapes of what a fixed layer trains, as far as the configuration alone tells them."""
    shapes: dict[str, tuple[object, ...]] = {}
    width = model.feature_size  # of what the projection reads
    if model.output_map == "mlp":
        width = model.output_map_size or 4 * model.feature_size
        shapes["output.hidden_map.weight"] = (width, model.feature_size)
    if model.output_dim is not None and (model.output_map != "auto" or model.output_dim != width):
        shapes["output.projection.weight"] = (model.output_dim, width)
    if model.word_scales:
        shapes["output.scales"] = (vocabulary_size,)
    return shapes


def _misfit(run: RunDirectory, found: object, expected: object = None) -> InputError:
    return InputError(run.path, "the checkpoint does not fit config.json", found=found, expected=expected)


def read_matrix(run: RunDirectory) -> OutputMatrix | Codebook:
    """The output matrix (or codebook) of a run, compared with the hash in its ``config.json``."""
    values = run.read_config()
    recipe = values["output_matrix"]
    if recipe is None:
        raise InputError(
            run.config, "names no output matrix for this output layer", found="output_matrix null"
        )
    expected = recipe["sha256"]
    kind = Codebook if values["model"]["output_embed"] == "walsh" else OutputMatrix
    matrix = kind.load(run.output_matrix)
    if matrix.sha256 != expected:
        raise InputError(
            run.output_matrix, "not the matrix of this run", found=matrix.sha256, expected=expected
        )
    return matrix


def _assemble(
    config: TrainConfig,
    vocabulary_size: int,
    matrix: OutputMatrix | Codebook | None,
    input_vectors: Tensor | None,
    unigram: Tensor | None,
) -> LanguageModel:
    model = config.model
    frozen = model.input_embed not in ("learned", "same")
    embedding = input_embedding(vocabulary_size, model.embed_size, input_vectors, frozen=frozen)
    precision = torch.bfloat16 if config.optimization.precision == "bfloat16" else None
    options: dict[str, Any] = {"log_unigram": unigram, "precision": precision}
    if isinstance(matrix, Codebook):
        walsh = config.matrix_options("walsh")
        options |= {
            "slots": torch.from_numpy(matrix.slots),
            "walsh_families": walsh.families,
            "halves": walsh.halves,
            "basis": model.walsh_basis,
        }
    elif model.output_embed not in output.TRAINED:
        options |= {"vectors": _tensor(matrix), "output_dim": model.output_dim}
        options |= {"alpha": model.alpha, "alpha_start": model.alpha_start, "normalize": model.normalize}
        options |= {"map": model.output_map, "map_size": model.output_map_size}
        options |= {"word_scales": True} if model.word_scales else {}
    layer = output.build(
        model.output_embed if model.output_embed in output.TRAINED else method_of(model.output_embed),
        model.feature_size,
        vocabulary_size,
        input_embedding=embedding,
        **options,
    )
    return LanguageModel(
        embedding,
        model.hidden_size,
        layer,
        embed_size=model.embed_size,
        num_layers=model.num_layers,
        last_hidden_size=model.last_hidden_size,
        dropout_input=config.dropout("input"),
        dropout_between=config.dropout("between"),
        dropout_output=config.dropout("output"),
        dropout_embedding=model.dropout_embedding,
        weight_drop=model.weight_drop,
        family_rows=layer.family_rows if isinstance(layer, WalshOutput) and model.walsh_tied else None,
        precision=precision,
    )


def _build_codebook(config: TrainConfig, corpus: Corpus, progress: Progress | None) -> Codebook:
    options = config.matrix_options("walsh")
    with naming_flags(options, "walsh"):
        return build_codebook(
            corpus.statistics(),
            config.model.matrix_seed,
            options,
            progress or (lambda what, done, total: None),
            directory=cache_directory() / "matrices",
        )


def _tensor(matrix: OutputMatrix | Codebook | None) -> Tensor | None:
    return torch.from_numpy(matrix.vectors) if isinstance(matrix, OutputMatrix) else None
