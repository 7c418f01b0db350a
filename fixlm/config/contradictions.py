"""What is wrong with a training run that no single flag shows: flags that contradict each other or do nothing."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from dataclasses import fields
from typing import TYPE_CHECKING

import embeddings
from fixlm import output
from fixlm.config.command_line import flag_name
from fixlm.errors import InputError, unknown_name

if TYPE_CHECKING:
    from fixlm.config.schema import ModelConfig, OptimizationConfig, TrainConfig


def contradictions(config: TrainConfig, given: Container[str]) -> Iterator[InputError]:
    """What no single flag shows, with the fix of each.

    Args:
        config: what the flags describe.
        given: the flags of the command line, by name without dashes.
    """
    model = config.model
    unknown = [*_unknown_embeddings(model)]
    yield from unknown
    if model.output_embed in output.TRAINED and model.input_embed in ("same", "fixed"):
        found = f"--output-embed {model.output_embed}"
        yield InputError("--input-embed", f"'{model.input_embed}' needs an output matrix", found=found)
    if model.output_embed == "tied" and model.input_embed not in ("learned", "same", "fixed"):
        yield InputError(
            "--input-embed", "tied trains the input embedding", found=model.input_embed, expected="learned"
        )
    if model.output_embed == "walsh" and model.output_dim is not None:
        found, fix = f"--output-embed walsh --output-dim {model.output_dim}", "set --walsh-families M"
        yield InputError("--output-dim", "a walsh code has 2·M numbers", found=found, fix=fix)
    if model.input_start != "random" and model.input_embed != "learned":
        found = f"--input-embed {model.input_embed}"
        yield InputError("--input-start", "only a learned input embedding has it", found=found, fix="drop it")
    if model.input_start_scale != 1 and model.input_embed not in ("learned", "same"):
        found, what = f"--input-embed {model.input_embed}", "a frozen input embedding stays as it is"
        yield InputError("--input-start-scale", what, found=found, fix="drop it")
    if model.output_embed not in ("learned", "walsh"):
        found, what = f"--output-embed {model.output_embed}", "only learned and walsh have it"
        for end, changed in (("", model.output_start != "random"), ("-scale", model.output_start_scale != 1)):
            if changed:
                fix = f"use --input-start{end}" if model.output_embed == "tied" else "drop it"
                yield InputError(f"--output-start{end}", what, found=found, fix=fix)
    yield from _useless_parts(config, given)
    yield from _without_effect(config.optimization, given)
    used = config.methods()
    for method in embeddings.names() if not unknown else ():
        for item in fields(embeddings.get(method).Options):
            flag = flag_name(item.name, method)
            if flag.removeprefix("--") in given and method not in used:
                fix = f"drop it, or use --output-embed {method}"
                yield InputError(
                    flag,
                    "this run builds no such matrix",
                    found=f"--output-embed {model.output_embed}",
                    fix=fix,
                )


def _without_effect(settings: OptimizationConfig, given: Container[str]) -> Iterator[InputError]:
    """Flags that were given and that nothing reads beside the others."""
    for name, owner, needed in (
        ("beta1", "optimizer", "adamw"),
        ("beta2", "optimizer", "adamw"),
        ("final_lr", "schedule", "cosine"),
        ("ema_decay", "average", "ema"),
        ("nonmono", "average", "nt-asgd"),
    ):
        chosen = getattr(settings, owner)
        if flag_name(name).removeprefix("--") in given and chosen != needed:
            found, fix = f"{flag_name(owner)} {chosen}", f"drop it, or use {flag_name(owner)} {needed}"
            yield InputError(flag_name(name), f"only {needed} has it", found=found, fix=fix)
    if settings.fine_tune is not None and "nonmono" in given and settings.average == "nt-asgd":
        found = f"--fine-tune {settings.fine_tune}"
        yield InputError("--nonmono", "fine-tuning averages from its first step", found=found, fix="drop it")


def _useless_parts(config: TrainConfig, given: Container[str]) -> Iterator[InputError]:
    """Flags for the parts of a layer that this layer does not have."""
    model = config.model
    found = f"--output-embed {model.output_embed}"
    dense = model.output_embed not in (*output.TRAINED, "walsh", "hadamard")
    if model.output_map != "auto" and not dense and model.output_embed != "hadamard":
        yield InputError("--output-map", "there is no map in front of this layer", found=found, fix="drop it")
    if model.output_map_size is not None and model.output_map != "mlp":
        yield InputError(
            "--output-map-size", "only an mlp has it", found=f"--output-map {model.output_map}", fix="drop it"
        )
    if model.word_scales and not dense:
        yield InputError(
            "--word-scales", "this layer has no rows to scale", found=found, expected="a dense fixed matrix"
        )
    for flag in ("walsh-basis", "walsh-tied"):
        if flag in given and model.output_embed != "walsh":
            yield InputError(f"--{flag}", "only walsh has it", found=found, fix="drop it")
    positions = config.matrix_options("walsh").positions
    # Families by rank or at random are as even as can be whatever their limit.
    if model.output_embed == "walsh" and "walsh-family-size" in given and positions != "pmi":
        found, fix = f"--walsh-positions {positions}", "drop it, or use --walsh-positions pmi"
        yield InputError("--walsh-family-size", "only families by PMI vectors have it", found=found, fix=fix)
    if model.output_embed == "walsh" and model.walsh_tied:
        yield from _untieable(config)


def _untieable(config: TrainConfig) -> Iterator[InputError]:
    """Why there are no rows of families to read, or why they are no input vectors."""
    model, halves = config.model, config.matrix_options("walsh").halves
    for flag, found, needed in (
        ("walsh-basis", model.walsh_basis, "families"),
        ("walsh-halves", halves, "both or shared" if halves == "own" else halves),
        ("embed-size", model.embed_size, model.feature_size),
    ):
        if found != needed:
            what = f"--walsh-tied reads the rows of families as input vectors, which needs --{flag} {needed}"
            yield InputError(f"--{flag}", what, found=found)


def _unknown_embeddings(model: ModelConfig) -> Iterator[InputError]:
    """``--output-embed`` and ``--input-embed`` where they are neither a known name nor a file."""
    for flag, embed, words in (
        ("--output-embed", model.output_embed, output.names()),
        ("--input-embed", model.input_embed, ["learned", "same", "fixed", *embeddings.names()]),
        ("--input-start", model.input_start, ["random", *embeddings.names()]),
        ("--output-start", model.output_start, ["random", *embeddings.names()]),
    ):
        without = ("pretrained",) if flag == "--output-embed" else ("pretrained", "walsh")
        known = [word for word in words if word not in without]
        if embed in known or os.path.isfile(embed):
            continue
        if os.path.sep in embed or "." in embed:
            yield InputError(flag, "there is no such file of vectors", found=embed, fix="check the path")
        else:
            kind = flag.removeprefix("--").replace("-embed", " embedding").replace("-", " ")
            yield unknown_name(flag, kind, embed, known)
