"""The grid that flags with several values describe."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fixlm.config import ModelConfig
from fixlm.errors import InputError, InputErrors
from fixlm.grid import LAYER, Plan, Setting, folder_name, method_of_flag


def product(given: Mapping[str, Any]) -> Plan:
    """The grid that flags with several values describe: ``{"output-embed": "tied,pmi", "seed": "1,2"}``.

    Values are separated by commas; a comma within one is written ``\\,``. A switch may be a list of both values.
    Flags of one matrix vary in the settings that build it only.

    Raises:
        InputErrors: a list has an empty value, or one value twice, or the seeds are no numbers.
    """
    errors: list[InputError] = []
    lists = {}
    for flag, value in given.items():
        lists[flag] = value if isinstance(value, list) else [value]
        if isinstance(value, str):
            try:
                lists[flag] = split_values(flag, value)
            except InputError as error:
                errors.append(error)
    InputErrors.raise_if_any(errors)
    seeds = read_seeds(lists.pop("seed", ["1"]))
    common = {flag: values[0] for flag, values in lists.items() if len(values) == 1}
    varied = {flag: values for flag, values in lists.items() if len(values) > 1}
    settings: dict[str, Setting] = {}
    for values in itertools.product(*varied.values()):
        flags = dict(zip(varied, values, strict=True))
        whole = Setting("any", flags)
        flags = {
            flag: value
            for flag, value in flags.items()
            if not (method := method_of_flag(flag)) or whole.builds(method, common)
        }
        layer = Path(str({**common, **flags}.get(LAYER, ModelConfig().output_embed))).name
        rest = [(flag, value) for flag, value in flags.items() if flag != LAYER]
        name = ", ".join([layer, *(_in_words(*each) for each in rest)])
        folder = "-".join([folder_name(layer), *(folder_name(_in_words(*each, "")) for each in rest)])
        settings.setdefault(name, Setting(name, flags, folder))
    return Plan([*settings.values()], seeds, common)


def split_values(flag: str, text: str) -> list[str]:
    """``a,b\\,c`` → ``['a', 'b,c']``.

    Raises:
        InputError: a value is empty or there twice.
    """
    values = [value.replace("\\,", ",") for value in re.split(r"(?<!\\),", text)]
    if os.path.exists(text) and len(values) > 1:
        fix = f"write {text.replace(',', chr(92) + ',')} for the file"
        raise InputError(f"--{flag}", "a comma separates values, and there is a file of this name", fix=fix)
    if "" in values and len(values) > 1:
        raise InputError(f"--{flag}", "an empty value between commas", found=text)
    if len({*values}) < len(values):
        raise InputError(f"--{flag}", "a value stands there twice", found=text)
    return values


def read_seeds(values: Sequence[Any]) -> list[int]:
    """Whole numbers out of what the command line gives.

    Raises:
        InputError: one is no whole number.
    """
    try:
        return [int(value) for value in values]
    except ValueError:
        raise InputError("--seed", "not whole numbers", found=",".join(map(str, values))) from None


def _in_words(flag: str, value: Any, between: str = " ") -> str:
    """``lr 0.003``, ``input-embed fixed``, ``no-normalize``; without a space where ``between`` is empty."""
    if isinstance(value, bool):
        return flag if value else f"no-{flag}"
    text = Path(value).name or value
    try:
        return f"{flag}{between}{float(text):.12g}"
    except ValueError:
        return f"{flag}{between or '-'}{text}"
