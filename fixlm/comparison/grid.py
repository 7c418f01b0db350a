"""The plan that a command line describes: a grid, where its flags have several values."""

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fixlm.comparison.plan import LAYER, PLAN, Plan, Setting, folder_name, read_plan
from fixlm.config.read import applies
from fixlm.config.schema import ModelConfig
from fixlm.errors import InputError, InputErrors


def requested_plan(directory: Path, flags: Mapping[str, Any], file: str | None = None) -> Plan | None:
    """The plan that a command line asks for; None if it names no plan, and means whatever runs are there.

    Args:
        directory: of the comparison; flags with one value change the plan that the directory holds.
        flags: those of ``fixlm.train`` that were given, as for `read_grid`.
        file: a plan in JSON or TOML, which the flags change too.

    Raises:
        InputError: a plan cannot be read, the flags are wrong, or a new grid would leave out flags of the stored plan.
    """
    if file is not None:
        return override(read_plan(Path(file)), flags)
    stored = read_plan(directory / PLAN) if (directory / PLAN).is_file() else None
    varied = [flag for flag, value in flags.items() if flag != "seed" and len(values_of(flag, value)) > 1]
    if stored is not None and not varied and LAYER not in flags:
        return override(stored, flags)
    lost = {flag: value for flag, value in stored.common.items() if flag not in flags} if stored and flags else {}
    if lost:
        found = ", ".join(f"--{_in_words(flag, value)}" for flag, value in lost.items())
        fix = "repeat them beside the new grid, or take another directory"
        raise InputError(
            directory, "the plan of this directory has flags that the new grid lacks", found=found, fix=fix
        )
    return read_grid(flags) if flags else None


def override(plan: Plan, flags: Mapping[str, Any]) -> Plan:
    """The plan with flags of a command line in place of whatever its settings have.

    Raises:
        InputError: a flag other than ``--seed`` has several values.
    """
    single = {flag: values_of(flag, value) for flag, value in flags.items()}
    seeds = read_seeds(single.pop("seed")) if "seed" in single else None
    for flag, values in single.items():
        if len(values) > 1:
            what = "takes one value here, in place of that of every setting"
            raise InputError(f"--{flag}", what, found=", ".join(map(str, values)))
    return plan.overridden({flag: values[0] for flag, values in single.items()}, seeds)


def read_grid(given: Mapping[str, Any]) -> Plan:
    """The plan that flags with several values describe: ``{"output-embed": "tied,pmi", "seed": "1,2"}``.

    Values are separated by commas; a comma within one is written ``\\,``. A switch may be a list of both values.
    The flags of a layer or matrix vary only in the settings that have it.

    Raises:
        InputErrors: a list has an empty value, or one value twice, or the seeds are no numbers.
    """
    errors: list[InputError] = []
    lists = {}
    for flag, value in given.items():
        try:
            lists[flag] = values_of(flag, value)
        except InputError as error:
            errors.append(error)
    InputErrors.raise_if_any(errors)
    seeds = read_seeds(lists.pop("seed", ["1"]))
    common = {flag: values[0] for flag, values in lists.items() if len(values) == 1}
    varied = {flag: values for flag, values in lists.items() if len(values) > 1}
    settings: dict[str, Setting] = {}

    def shown(flag: str, value: Any) -> Any:
        """Of a path its last part, where that tells it from the other values of the flag."""
        names = [Path(str(each)).name for each in lists.get(flag, ())]
        return value if isinstance(value, bool) or len({*names}) < len(names) else Path(str(value)).name or value

    for values in itertools.product(*varied.values()):
        flags = dict(zip(varied, values, strict=True))
        whole = {**common, **flags}
        flags = {flag: value for flag, value in flags.items() if applies(flag, whole)}
        layer = shown(LAYER, {**common, **flags}.get(LAYER, ModelConfig().output_embed))
        rest = [(flag, shown(flag, value)) for flag, value in flags.items() if flag != LAYER]
        name = ", ".join([layer, *(_in_words(*each) for each in rest)])
        folder = "-".join([folder_name(layer), *(folder_name(_in_words(*each, "")) for each in rest)])
        settings.setdefault(name, Setting(name, flags, folder))
    return Plan([*settings.values()], seeds, common)


def values_of(flag: str, given: Any) -> list[Any]:
    """``'a,b\\,c'`` → ``['a', 'b,c']``; what is a list or no string stays as it is.

    Raises:
        InputError: a value is empty or there twice, or it is the name of a file.
    """
    if not isinstance(given, str):
        return given if isinstance(given, list) else [given]
    values = [value.replace("\\,", ",") for value in re.split(r"(?<!\\),", given)]
    if len(values) > 1 and os.path.exists(given):
        fix = "write \\, for the comma of a name"
        raise InputError(f"--{flag}", "commas separate values, and a file has this name", found=given, fix=fix)
    if len(values) > 1 and "" in values:
        raise InputError(f"--{flag}", "an empty value between commas", found=given)
    if len({*values}) < len(values):
        raise InputError(f"--{flag}", "a value stands there twice", found=given)
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
    try:
        return f"{flag}{between}{float(value):.12g}"
    except ValueError:
        return f"{flag}{between or '-'}{value}"
