"""Presets: named sets of values of many flags. A flag that is given wins over the preset."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from fixlm.config.command_line import flag_name

T = TypeVar("T")

PRESETS: dict[str, dict[str, Any]] = {
    "fast": {},  # the defaults of `fixlm.config.schema`: AdamW and a cosine, for a budget of CPU hours
    # Merity, Keskar and Socher 2017 for WikiText-2. Between the layers the paper has 0.3; 0.2 is the command that the
    # authors give with their code, whose locked dropout was mended after the paper.
    "awd": {
        "num_layers": 3,
        "hidden_size": 1150,
        "last_hidden_size": 400,
        "embed_size": 400,
        "dropout_input": 0.65,
        "dropout_between": 0.2,
        "dropout_output": 0.4,
        "dropout_embedding": 0.1,
        "weight_drop": 0.5,
        "epochs": 750,
        "batch_size": 80,
        "bptt": 70,
        "vary_bptt": True,
        "optimizer": "sgd",
        "lr": 30.0,
        "schedule": "constant",
        "warmup_steps": 0,
        "clip": 0.25,
        "weight_decay": 1.2e-6,
        "ar": 2.0,
        "tar": 1.0,
        "average": "nt-asgd",
        "nonmono": 5,
    },
    # The races to test perplexities of 100.3 and 86.7 on WikiText-2: docs/speedrun.md.
    "speedrun-100": {
        "output_embed": "cca",
        "hidden_size": 256,
        "embed_size": 256,
        "input_start": "cca",
        "input_start_scale": 8.0,
        "cross_fit": 4,
        "normalize": False,
        "learned_words": 2000,
        "tail_clusters": 4,
        "dropout": 0.05,
        "lr": 0.012,
        "epochs": 2,
        "ngram_order": 4,
    },
}
PRESETS["speedrun-87"] = {name: value for name, value in PRESETS["speedrun-100"].items() if name != "dropout"} | {
    "hidden_size": 512,
    "embed_size": 512,
    "dropout_input": 0.35,
    "dropout_between": 0.2,
    "dropout_output": 0.3,
    "weight_drop": 0.2,
    "lr": 0.008,
    "epochs": 9,
}

FOLLOWS = {
    "last_hidden_size": "embed_size",
    "dropout_input": "dropout",
    "dropout_between": "dropout",
    "dropout_output": "dropout",
}
"""A value of a preset that gives way where only the flag it belongs to is given: the last layer is as long as the
embedding, and ``--dropout`` stands for the three rates."""


def fill_in(part: T, preset: str, given: Mapping[str, Any], prefix: str = "") -> T:
    """A group of the configuration with the preset's values where no flag was given.

    Args:
        part: the dataclass that the given flags describe.
        given: those flags, by name without dashes.
        prefix: what the flags of this group begin with: the name of a matrix.
    """
    fields = {f"{prefix}_{field.name}".lstrip("_"): field.name for field in dataclasses.fields(part)}  # type: ignore[arg-type]

    def is_given(name: str | None) -> bool:
        return name is not None and flag_name(name).removeprefix("--") in given

    values = {}
    for name, value in PRESETS[preset].items():
        if name in fields and not is_given(name):
            leader = FOLLOWS.get(name)
            values[fields[name]] = getattr(part, leader) if leader and is_given(leader) else value
    return dataclasses.replace(part, **values)  # type: ignore[type-var]


def as_flags(preset: str) -> str:
    """The preset as it would stand on a command line: ``--num-layers 3 --hidden-size 1150 …``."""
    flags = []
    for name, value in PRESETS[preset].items():
        flag = flag_name(name)
        if isinstance(value, bool):
            flags.append(flag if value else f"--no-{flag[2:]}")
        else:
            flags.append(f"{flag} {value:g}" if isinstance(value, int | float) else f"{flag} {value}")
    return " ".join(flags)
