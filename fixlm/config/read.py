"""A configuration out of flags, and the list of all flags that there are."""

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import embeddings
from embeddings.errors import InputError, InputErrors
from fixlm.config.command_line import Flag, flag_name, flags_of, read_options
from fixlm.config.presets import PRESETS, fill_in
from fixlm.config.schema import GROUPS, ModelConfig
from fixlm.config.train_config import TrainConfig
from fixlm.output import registry

EMBEDS = ("output-embed", "input-embed", "input-start", "output-start")
"""Flags that may name a file of vectors."""


REMOVE_ONE = "remove one of the two flags"


def flag_groups() -> dict[str, list[Flag]]:
    """All flags of a training run, by the title of their group in ``--help``; each flag once."""
    shown = {"layers": ", ".join(registry.names()), "rates": registry.learning_rates()}
    groups = {name: flags_of(kind, **shown) for name, kind in GROUPS.items()}
    own = {flag.name: flag for kind in registry.all_options() for flag in flags_of(kind)}
    groups = {"data": groups.pop("data"), "model": groups.pop("model"), "output layer": [*own.values()], **groups}
    for method in embeddings.names():
        groups[f"output matrix {method}"] = flags_of(embeddings.get(method).Options, method)
    return {title: [flag for flag in flags if flag.place != "hidden"] for title, flags in groups.items()}


def applies(flag: str, given: Mapping[str, Any]) -> bool:
    """Whether a flag means anything to a run: its layer has that option, or it builds that matrix.

    Args:
        flag: without dashes in front.
        given: the flags of the run. Where they name no layer, every flag applies: the error is another one.
    """

    def is_of(kind: type[Any], prefix: str = "") -> bool:
        return flag in {each.name for each in flags_of(kind, prefix)}

    methods = {method for method in embeddings.names() if is_of(embeddings.get(method).Options, method)}
    layers = [kind for kind in registry.all_options() if is_of(kind)]
    if not methods and not layers:
        return True
    try:
        config = _by_names(given)
    except InputError:
        return True
    return config.layer.options in layers or not methods.isdisjoint(config.methods())


def _by_names(given: Mapping[str, Any]) -> TrainConfig:
    """A configuration with the names of layers and matrices alone, which say what it builds."""
    given = by_name(given)
    preset = PRESETS.get(str(given.get("recipe")), {})
    chosen = {name: preset[flag] for name in EMBEDS if (flag := name.replace("-", "_")) in preset}
    chosen |= {name: given[name] for name in EMBEDS if name in given}
    model = read_options(chosen, ModelConfig)
    return TrainConfig(model=model, output=read_options(chosen, registry.entry(model.output_embed).options))


def by_flag(values: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as plain values (`TrainConfig.to_json`) by flag: ``{"--lr": 0.003, …}``."""
    parts = [("", values[group]) for group in ("data", "model", "optimization")]
    parts += list(values["matrices"].items())
    return {flag_name(name, prefix): value for prefix, part in parts for name, value in part.items()}


def read_config(given: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> TrainConfig:
    """The configuration that flags describe.

    Args:
        given: flags by name, with dashes or underscores between words; strings, or values of the right kind.
        stored: flags by name that a run has, for those that are not given: a flag means what it means beside them.

    Raises:
        InputErrors: with everything that is wrong with it, not only the first problem.
    """
    given = _with_paths(by_name(given))
    flags = {**(stored or {}), **given}
    errors: dict[str, InputError] = {}  # by text: two layers may share an option

    def read(kind: type[Any], prefix: str = "") -> Any:
        try:
            return read_options(flags, kind, prefix)
        except InputError as error:
            errors.update({str(each): each for each in error.errors})
            return kind()

    parts = {name: read(kind) for name, kind in GROUPS.items()}
    preset = parts["optimization"].recipe
    parts |= {name: fill_in(parts[name], preset, flags) for name in ("model", "optimization", "run")}
    options = {method: read(embeddings.get(method).Options, method) for method in embeddings.names()}
    matrices = {method: fill_in(own, preset, flags, method) for method, own in options.items()}
    outputs = {kind: fill_in(read(kind), preset, flags) for kind in registry.all_options()}
    missing = [*_missing_files(given)]
    errors |= {str(each): each for each in missing}
    if missing:  # whatever they were to be, more cannot be said
        raise InputErrors([*errors.values()])
    output = outputs[registry.entry(parts["model"].output_embed).options]
    try:
        config = TrainConfig(**parts, output=output, matrices=matrices)
    except InputError as error:
        found = [_of_preset(each.at(flag_name(each.where)), preset, flags) for each in error.errors]
        raise InputErrors([*errors.values(), *found]) from None
    found = [_of_preset(each, preset, flags) for each in _without_effect(config, given)]
    InputErrors.raise_if_any([*errors.values(), *found])
    used = config.methods()
    kept = {method: options for method, options in matrices.items() if method in used}
    return dataclasses.replace(config, matrices=kept)


def _of_preset(error: InputError, preset: str, given: Mapping[str, Any]) -> InputError:
    """The error, and in its fix what is said of flags that nobody gave: they are the preset's."""
    named = set(re.findall(r"--([a-z-]+[a-z])", str(error)))
    own = [flag for name in PRESETS[preset] if (flag := flag_name(name)[2:]) in named and flag not in given]
    if not own:
        return error
    by = f"--preset {preset} sets {' and '.join(f'--{flag}' for flag in own)}"
    if error.where.removeprefix("--") in own:  # nobody can remove it
        return error.with_fix(f"{by}: give {'them' if own[1:] else 'it'} a value that fits")
    return error.with_fix(f"{error.fix or 'remove the flag'}; {by}")


def by_name(given: Mapping[str, Any]) -> dict[str, Any]:
    """Flags by their own names, without dashes in front and with dashes between words: an alias is another name."""
    aliases = {flag.alias: flag.name for kind in GROUPS.values() for flag in flags_of(kind) if flag.alias}
    dashed = {name.removeprefix("--").replace("_", "-"): value for name, value in given.items()}
    return {aliases.get(name, name): value for name, value in dashed.items()}


def _with_paths(given: Mapping[str, Any]) -> dict[str, Any]:
    """The flags with a file ``glove`` as ``./glove``, so that a stored name is a path wherever it is read."""
    names = {*registry.names(), "learned", "same", "fixed", "random"}
    values = dict(given)
    for flag in EMBEDS:
        name = given.get(flag)
        if isinstance(name, str) and name not in names and not registry.looks_like_path(name) and os.path.isfile(name):
            values[flag] = os.path.join(".", name)
    return values


def _missing_files(given: Mapping[str, Any]) -> Iterator[InputError]:
    """Paths to vectors that are not there. A finished run needs its file no more, so only flags are held to it."""
    for flag in EMBEDS:
        path = given.get(flag)
        if isinstance(path, str) and registry.looks_like_path(path) and not os.path.isfile(os.path.expanduser(path)):
            yield InputError(f"--{flag}", "there is no such file of vectors", found=path, fix="check the path")


def _without_effect(config: TrainConfig, given: Mapping[str, Any]) -> Iterator[InputError]:
    """Flags that were given and that nothing reads beside the others."""
    yield from _of_other_layers(config, given)
    yield from _of_other_matrices(config, given)
    settings = config.optimization
    for name, owner, needed in (
        ("beta1", "optimizer", "adamw"),
        ("beta2", "optimizer", "adamw"),
        ("final_lr", "schedule", "cosine"),
        ("ema_decay", "average", "ema"),
        ("nonmono", "average", "nt-asgd"),
    ):
        chosen = getattr(settings, owner)
        if flag_name(name)[2:] in given and chosen != needed:
            what, found = f"has no effect without {flag_name(owner)} {needed}", f"{flag_name(owner)} {chosen}"
            fix = f"remove the flag, or add {flag_name(owner)} {needed}"
            yield InputError(flag_name(name), what, found=found, fix=fix)
    for method, options in config.matrices.items():
        if (lags := getattr(options, "lags", None)) is not None and f"{method}-window" in given:
            what, fix = f"has no effect beside --{method}-lags, whose last number is the window", REMOVE_ONE
            yield InputError(f"--{method}-window", what, found=f"--{method}-lags {lags}", fix=fix)
    alpha, signs = getattr(config.output, "alpha", None), config.matrices.get("pmi-signs")
    if "alpha-weight-decay" in given and not hasattr(config.output, "alpha"):
        what, found = "has no effect: this output layer has no α", f"--output-embed {config.model.output_embed}"
        yield InputError("--alpha-weight-decay", what, found=found, fix="remove the flag")
    if "output-lr" in given and _trains_no_matrix(config):
        what = "has no effect: the layer trains no matrix of its own"
        found = f"--output-embed {config.model.output_embed}"
        yield InputError("--output-lr", what, found=found, fix="remove the flag")
    for flag, needed, idle in (
        ("tokenizer-type", "--tokenizer sentencepiece", config.data.tokenizer != "sentencepiece"),
        ("learned-words-scale", "--learned-words", not getattr(config.output, "learned_words", 1)),
        ("pmi-signs-iterations", "--pmi-signs-rotation itq", getattr(signs, "rotation", "itq") != "itq"),
        ("dropout-between", "--num-layers 2 or more", config.model.num_layers == 1),
    ):
        if flag in given and idle:
            yield InputError(f"--{flag}", f"has no effect without {needed}", fix=f"remove the flag, or add {needed}")
    for flag, other, idle in (
        ("alpha-start", "--alpha, which holds α", alpha is not None),
        ("alpha-weight-decay", "--alpha, which holds α", alpha is not None),
        ("alpha-start", "--fine-tune, whose run has its own α", settings.fine_tune is not None),
        ("bias-start", "--fine-tune, whose run has its own b", settings.fine_tune is not None),
    ):
        if flag in given and idle:
            yield InputError(f"--{flag}", f"has no effect beside {other}", fix=REMOVE_ONE)
    if "cross-fit" in given and config.model.cross_fit and not config.cross_fitted():
        what, fix = "has no effect: this run has no vectors that are counted on the train split", "remove the flag"
        found = f"--output-embed {config.model.output_embed}"
        yield InputError("--cross-fit", what, found=found, fix=f"{fix}, or add --input-start pmi")
    if settings.fine_tune is not None and "nonmono" in given and settings.average == "nt-asgd":
        found = f"--fine-tune {settings.fine_tune}"
        what = "has no effect: fine-tuning averages from its first step"
        yield InputError("--nonmono", what, found=found, fix="remove the flag")


def _trains_no_matrix(config: TrainConfig) -> bool:
    """Whether all that the output layer trains are a bias and scales, beside what is the input embedding."""
    model, output = config.model, config.output
    if config.layer.trains_input:
        return model.embed_size == model.feature_size
    method = config.layer.method
    own_dim = method is not None and getattr(embeddings.get(method), "OWN_DIM", False)
    same_size = not own_dim and getattr(output, "output_dim", None) in (None, model.feature_size)
    # A layer without --output-map has a matrix of its own, which is trained.
    trained = not hasattr(output, "output_map") or output.output_map != "auto" or getattr(output, "learned_words", 0)
    return same_size and not trained


def _of_other_layers(config: TrainConfig, given: Mapping[str, Any]) -> Iterator[InputError]:
    own = {item.name for item in dataclasses.fields(config.output)}
    inputs = {item.name for item in dataclasses.fields(ModelConfig)}
    for kind in registry.all_options():
        for item in dataclasses.fields(kind):
            if item.name in own or flag_name(item.name)[2:] not in given:
                continue
            own.add(item.name)  # told once
            twin = item.name.replace("output_", "input_")
            having = [name for name in registry.names() if hasattr(registry.entry(name).options, item.name)]
            fix = f"remove the flag, or choose --output-embed {', '.join(having)}"
            if config.layer.trains_input and twin in inputs:
                fix = f"use {flag_name(twin)}"
            what = "has no effect on this output layer"
            yield InputError(flag_name(item.name), what, found=f"--output-embed {config.model.output_embed}", fix=fix)


def _of_other_matrices(config: TrainConfig, given: Mapping[str, Any]) -> Iterator[InputError]:
    used = config.methods()
    for method in embeddings.names():
        for flag in flags_of(embeddings.get(method).Options, method):
            if flag.name in given and method not in used:
                what = f"has no effect: no {method} matrix is built"
                choice = "FILE, a file of vectors" if method == registry.FROM_FILE else method
                fix = f"remove the flag, or choose --output-embed {choice}"
                yield InputError(f"--{flag.name}", what, found=f"--output-embed {config.model.output_embed}", fix=fix)
