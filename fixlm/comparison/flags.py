"""What a comparison asks about the flags of a training run, and about a configuration by flag."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import embeddings
from fixlm.config.command_line import flag_name
from fixlm.config.schema import GROUPS, ModelConfig, TrainConfig

LAYER = "output-embed"
OWN = ("run", "resume", "seed")
"""Flags of ``fixlm.train`` that the comparison sets itself."""


def plain_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The same flags without dashes in front, with values as the command line has them.

    A value is a string, or True or False for a switch.
    """
    return {
        name.removeprefix("--").replace("_", "-"): value
        if isinstance(value, bool)
        else "none"
        if value is None
        else str(value)
        for name, value in flags.items()
    }


def switches() -> dict[str, bool]:
    """The flags that a setting may have, without dashes, and whether each is a switch."""
    kinds = [(kind, "") for kind in GROUPS.values()]
    kinds += [(embeddings.get(method).Options, method) for method in embeddings.names()]
    found = {
        flag_name(item.name, prefix)[2:]: item.type in ("bool", bool)
        for kind, prefix in kinds
        for item in fields(kind)
    }
    return {flag: switch for flag, switch in found.items() if flag not in OWN}


def method_of_flag(flag: str) -> str | None:
    """The output-matrix method whose option a flag is; None for a flag of every run."""
    for method in embeddings.names():
        if flag in {flag_name(item.name, method)[2:] for item in fields(embeddings.get(method).Options)}:
            return method
    return None


def is_read(flag: str, flags: Mapping[str, Any]) -> bool:
    """Whether a run with these flags reads the flag: an option of an output matrix only where that matrix is built."""
    method = method_of_flag(flag)
    if method is None:
        return True
    names = ("output_embed", "input_embed", "output_start", "input_start")
    chosen: dict[str, Any] = {
        name: str(flags[dashed]) for name in names if (dashed := name.replace("_", "-")) in flags
    }
    return method in TrainConfig(model=ModelConfig(**chosen)).methods()


def layer_of(flags: Mapping[str, Any]) -> str:
    """The output layer of a run with these flags; of a path, the name of the file."""
    return Path(str(flags.get(LAYER, ModelConfig().output_embed))).name


def by_flag(values: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration in plain values (`TrainConfig.to_json`) by flag: ``{"--lr": 0.003, …}``."""
    parts = [("", values[group]) for group in ("data", "model", "optimization")]
    parts += list(values["matrices"].items())
    return {flag_name(name, prefix): value for prefix, part in parts for name, value in part.items()}
