"""Which runs a comparison has: settings × seeds, each with its flags, its configuration and its directory."""

import contextlib
import dataclasses
import itertools
import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embeddings.files import parse_json, write_json
from fixlm.config.read import applies, by_name, flag_groups, read_config
from fixlm.config.schema import RUN_SETTINGS
from fixlm.config.train_config import TrainConfig
from fixlm.errors import InputError, InputErrors, unknown_name

LAYER = "output-embed"
PLAN = "plan.json"
"""In the directory of a comparison: the plan that it trained last."""
KEYS = ("settings", "seeds", "common", "question", "best-by")
"""What a file of a plan may have. The last two are for its readers."""
OWN = ("run", "resume", "seed")
"""Flags of `fixlm.train` that the comparison sets itself."""


@dataclass(frozen=True)
class Setting:
    """One row of the table: what is trained once for each seed.

    Args:
        name: what the table calls it.
        flags: those of ``fixlm.train`` by name, with or without dashes; numbers may be numbers, and a switch such as
            ``normalize`` is True or False.
        folder: beginning of the names of its run directories; from the name if not given.
        seeds: of this setting alone; those of the plan if None.
    """

    name: str
    flags: Mapping[str, Any]
    folder: str = ""
    seeds: Sequence[int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "flags", plain_flags(self.flags))
        object.__setattr__(self, "folder", self.folder or folder_name(self.name))


@dataclass(frozen=True)
class PlannedRun:
    """One run of the grid.

    Args:
        flags: all of them, the seed too, as the command line would give them.
        config: what they describe; None where they describe nothing any more (see `Plan.runs`).
    """

    setting: Setting
    seed: int
    path: Path
    flags: Mapping[str, Any]
    config: TrainConfig | None


@dataclass(frozen=True)
class Plan:
    """Settings, seeds, and the flags of all settings that do not give their own."""

    settings: Sequence[Setting]
    seeds: Sequence[int] = (1,)
    common: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "common", plain_flags(self.common))

    def overridden(self, flags: Mapping[str, Any], seeds: Sequence[int] | None = None) -> "Plan":
        """The same plan with these flags in place of whatever a setting has."""
        flags = plain_flags(flags)
        settings = []
        for setting in self.settings:
            kept = {name: value for name, value in setting.flags.items() if name not in flags}
            own = setting.seeds if seeds is None else None
            settings.append(dataclasses.replace(setting, flags=kept, seeds=own))
        return Plan(settings, self.seeds if seeds is None else seeds, {**self.common, **flags})

    def runs(self, directory: Path, *, trusting: bool = False) -> list[PlannedRun]:
        """All runs, the first seed of every setting before the second of any.

        A common flag of one layer (``alpha``) or matrix (``pmi-window``) goes to the settings that have it.

        Args:
            trusting: give runs whose flags are wrong a configuration of None instead of raising; a table can be made
                where a file of vectors is no more.

        Raises:
            InputErrors: with everything that is wrong in any setting, each thing once.
        """
        errors = [*self._problems()]
        wrong: dict[str, tuple[InputError, list[str]]] = {}
        found = []
        for seed, setting in self._in_order():
            flags = self._flags(setting) | {"seed": str(seed)}
            config = None
            try:
                config = read_config(flags)
            except InputError as error:
                for each in error.errors:
                    wrong.setdefault(str(each), (each, []))[1].append(setting.name)
            path = directory / f"{setting.folder}-seed{seed}"
            found.append(PlannedRun(setting, seed, path, flags, config))
        if not trusting:
            names = {setting.name for setting in self.settings}
            for each, where in wrong.values():
                several = len(names) > len(set(where))
                errors.append(each.at(f"{where[0]}: {each.where}") if several else each)
        InputErrors.raise_if_any(errors)
        return found

    def to_json(self) -> dict[str, Any]:
        """What stands in ``plan.json`` and what ``--plan`` reads."""
        settings = [dataclasses.asdict(setting) for setting in self.settings]
        return {"common": dict(self.common), "seeds": list(self.seeds), "settings": settings}

    def _in_order(self) -> Iterator[tuple[int, Setting]]:
        """The first seed of every setting, then the second of those that have one, and so on."""
        rounds = itertools.zip_longest(*(self._seeds(setting) for setting in self.settings))
        for seeds in rounds:
            yield from ((seed, setting) for seed, setting in zip(seeds, self.settings, strict=True) if seed is not None)

    def _seeds(self, setting: Setting) -> Sequence[int]:
        return self.seeds if setting.seeds is None else setting.seeds

    def _flags(self, setting: Setting) -> dict[str, Any]:
        given = {**self.common, **setting.flags}
        return {flag: value for flag, value in given.items() if flag in setting.flags or applies(flag, given)}

    def _problems(self) -> Iterator[InputError]:
        """What is wrong with the plan besides the values of its flags."""
        if not self.settings or not self.seeds:
            found = f"{len(self.settings)} settings, {len(self.seeds)} seeds"
            yield InputError("comparison", "there is nothing to train", found=found)
        seen: dict[str, str] = {}
        names = [setting.name for setting in self.settings]
        for name in dict.fromkeys(names):
            if names.count(name) > 1:
                yield InputError(name, "two settings have this name", fix="another name for one of them")
        for setting in self.settings:
            if Path(setting.folder).name != setting.folder:
                yield InputError(setting.name, "a folder that is no plain name", found=repr(setting.folder))
            if setting.seeds is not None and not setting.seeds:
                yield InputError(setting.name, "no seed, so that it has no run", fix="remove the setting")
            folder = setting.folder.casefold()  # some file systems do not tell A from a
            if folder in seen:
                what = f"the runs would have the directories of '{seen[folder]}'"
                yield InputError(setting.name, what, found=setting.folder, fix="another name or folder")
            seen[folder] = setting.name
        for seeds in dict.fromkeys(tuple(self._seeds(setting)) for setting in self.settings):
            if not all(type(seed) is int for seed in seeds) or len({*seeds}) < len(seeds):
                yield InputError("--seed", "not whole numbers, each once", found=list(seeds))
        yield from self._problems_of_flags()

    def _problems_of_flags(self) -> Iterator[InputError]:
        known = switches()
        given = [
            (flag, value) for part in (self.common, *(s.flags for s in self.settings)) for flag, value in part.items()
        ]
        for flag, value in dict.fromkeys(given):
            if flag not in known:
                yield unknown_name(f"--{flag}", "flag", flag, known)
            elif known[flag] != isinstance(value, bool):
                expected = "true or false" if known[flag] else "a value"
                yield InputError(f"--{flag}", "not of the right kind", found=value, expected=expected)
        for flag in self.common:
            if not any(applies(flag, {**self.common, **setting.flags}) for setting in self.settings):
                yield InputError(f"--{flag}", "has no effect on any setting", fix="remove the flag")


def read_plan(path: Path) -> Plan:
    """The plan in a JSON or TOML file, as `Plan.to_json` gives it; common, seeds and folders may be left out.

    Raises:
        InputError: the file cannot be read or is no plan.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text) if path.suffix == ".toml" else parse_json(text)
        for key in values:
            if key not in KEYS:
                raise unknown_name(path, "key", key, KEYS)
        settings = [Setting(**setting) for setting in values["settings"]]
        seeds = [values.get("seeds", [1]), *(each.seeds for each in settings if each.seeds is not None)]
        if not all(isinstance(each, list) for each in seeds):
            raise TypeError("seeds that are no list")
        if not all(isinstance(text, str) for each in settings for text in (each.name, each.folder)):
            raise TypeError("a name or a folder that is no text")
        return Plan(settings, seeds[0], values.get("common", {}))
    except InputError:
        raise
    except OSError as error:
        raise InputError(path, "cannot be read", found=error.strerror) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        expected = '{"settings": [{"name": "…", "flags": {"output-embed": "…"}}], "seeds": [1], "common": {}}'
        raise InputError(path, "not a plan", found=repr(error), expected=expected) from None


def write_plan(path: Path, plan: Plan) -> None:
    """``plan.json``, whole or not at all; a file that holds the plan already stays as it is."""
    with contextlib.suppress(InputError):  # there is none yet, or it is damaged
        if read_plan(path) == plan:
            return
    write_json(path, plan.to_json())


def plain_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Names without dashes in front, values as the command line has them: strings, and True or False for switches."""

    def plain(value: Any) -> Any:
        return value if isinstance(value, bool) else "none" if value is None else str(value)

    return {name: plain(value) for name, value in by_name(flags).items()}


def switches() -> dict[str, bool]:
    """The flags a setting may have, without dashes, and whether each is a switch."""
    flags = [flag for group in flag_groups().values() for flag in group]
    return {flag.name: flag.kind.type is bool for flag in flags if flag.name not in OWN}


def grouping(best_by: str) -> str:
    """A flag that rows are grouped by, without dashes in front.

    Raises:
        InputError: no setting has such a flag, or it is one that changes nothing of what is learned.
    """
    (flag,) = by_name({best_by: None})
    known = [name for name in switches() if name.replace("-", "_") not in RUN_SETTINGS]
    if flag not in known:
        raise unknown_name("--best-by", "flag", flag, known)
    return flag


def folder_name(name: str) -> str:
    """A name for a directory: letters, digits and ``. _ + -``; ``pmi, α = 1`` → ``pmi-alpha-1``."""
    spelled = "".join(
        unicodedata.name(letter).split()[-1].lower() if "GREEK" in unicodedata.name(letter, "") else letter
        for letter in unicodedata.normalize("NFKD", name)
    )
    return re.sub(r"-+", "-", re.sub(r"[^A-Za-z0-9._+-]+", "-", spelled)).strip("-.") or "setting"
