"""Command-line flags out of configuration dataclasses: one field, one flag.

A field is made with `option`, which holds its help, its choices and its range. Flags take strings; `read_options`
converts and checks them all, so that every problem of a command line is reported at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import Field, dataclass, fields
from typing import Any, TypeVar

from fixlm.errors import InputError, InputErrors, unknown_name

T = TypeVar("T")

LARGEST = 2**32 - 1
"""Of any whole number: no size, step or seed is above it, and libraries take no number of any size."""


@dataclass(frozen=True)
class Range:
    """The values a number may take: ``minimum`` ≤ x ≤ ``maximum``, or strictly ``above`` and ``below``."""

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            (isinstance(value, int) or math.isfinite(value))  # a huge int has no float to ask
            and (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        parts = [
            (self.minimum, "at least"),
            (self.above, "above"),
            (self.maximum, "at most"),
            (self.below, "below"),
        ]
        return (
            " and ".join(f"{word} {bound:.12g}" for bound, word in parts if bound is not None)
            or "a finite number"
        )


def option(default: Any, help: str, *, choices: Sequence[str] | None = None, **bounds: float) -> Any:
    """A dataclass field with what the command line has to know of it.

    Args:
        default: its value when the flag is not given.
        help: the line in ``--help``.
        choices: the words it may be.
        bounds: ``minimum``, ``maximum``, ``above``, ``below`` of a number.
    """
    metadata: dict[str, Any] = {"help": help, "choices": choices}
    if bounds:
        metadata["range"] = Range(**bounds)
    return dataclasses.field(default=default, metadata=metadata)


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors and no abbreviated flags."""

    def __init__(self, **keywords: Any) -> None:
        keywords.setdefault("allow_abbrev", False)
        keywords.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**keywords)
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def error(self, message: str) -> typing.NoReturn:
        known = [flag for action in self._actions for flag in action.option_strings]
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            flag = unknown.split()[0]
            if flag.startswith("-"):
                wrong = unknown_name(flag, "flag", flag.split("=")[0], known)
                hint = str(wrong).partition("Did you mean ")[2].partition("?")[0]
                fix = (f"Did you mean {hint}? " if hint else "") + "See --help for all flags"
                raise InputError(flag, "unknown flag (flags cannot be abbreviated)", fix=fix)
            raise InputError(flag, "unexpected argument", fix="see --help")
        raise InputError("command line", message, fix="see --help")


def flag_name(name: str, prefix: str = "") -> str:
    """``hidden_size`` → ``--hidden-size``; with prefix ``pmi``: ``window`` → ``--pmi-window``."""
    return "--" + "-".join(part for part in (prefix, name.replace("_", "-")) if part)


@contextmanager
def naming_flags(options: Any, prefix: str = "", **others: str) -> Iterator[None]:
    """Turns an `InputError` about an option, which a builder raised, into one about its flag.

    Args:
        options: the dataclass, or one of it, whose fields are flags with this prefix.
        others: further names and their flags, such as ``dim="--output-dim"``.
    """
    try:
        yield
    except InputError as error:
        flags = {field.name: flag_name(field.name, prefix) for field in fields(options)} | others
        raise error.at(flags.get(error.where, error.where)) from error.__cause__


def add_options(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup,
    options: type[Any],
    prefix: str = "",
    skip: Sequence[str] = (),
    **words: str,
) -> None:
    """Adds a flag for each field of a dataclass; a flag that is not given leaves no trace in the namespace.

    Args:
        prefix: put before each flag, as in ``--pmi-window``.
        skip: fields without a flag.
        words: values for names such as ``%(layers)s`` in a help line.
    """
    for field in fields(options):
        if field.name in skip:
            continue
        flag = flag_name(field.name, prefix)
        default = "none" if field.default is None else field.default
        help = field.metadata.get("help", "")
        help = f"{help % words if words else help} (default: {default})".replace("%", "%%")
        destination = flag.removeprefix("--")
        if _kinds(options, field)[0] is bool:
            parser.add_argument(
                flag,
                dest=destination,
                action=argparse.BooleanOptionalAction,
                default=argparse.SUPPRESS,
                help=help,
            )
        else:
            choices = field.metadata.get("choices")
            metavar = "{" + ",".join(choices) + "}" if choices else _kinds(options, field)[0].__name__.upper()
            parser.add_argument(flag, dest=destination, default=argparse.SUPPRESS, metavar=metavar, help=help)


def read_options(namespace: argparse.Namespace | Mapping[str, Any], options: type[T], prefix: str = "") -> T:
    """The dataclass that a parsed command line describes.

    Raises:
        InputErrors: with every flag whose value is of the wrong kind, no choice, or out of its range.
    """
    given = namespace if isinstance(namespace, Mapping) else vars(namespace)
    values, errors = {}, []
    for field in fields(options):  # type: ignore[arg-type]
        flag = flag_name(field.name, prefix)
        if flag.removeprefix("--") in given:
            try:
                values[field.name] = _convert(flag, given[flag.removeprefix("--")], options, field)
            except InputError as error:
                errors.append(error)
    InputErrors.raise_if_any(errors)
    return options(**values)


def _kinds(options: type[Any], field: Field[Any]) -> tuple[type, bool]:
    """The type of a field's value and whether None may stand in its place."""
    kind = typing.get_type_hints(options)[field.name]
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        members = [member for member in typing.get_args(kind) if member is not type(None)]
        return members[0], True
    return kind, False


def check_options(options: Any, prefix: str = "") -> Iterator[InputError]:
    """What is wrong with the values of a dataclass that no command line gave: the kind, the choice or the range."""
    for field in fields(options):
        kind, optional = _kinds(type(options), field)
        value, flag = getattr(options, field.name), flag_name(field.name, prefix)
        if value is None and optional:
            continue
        # A whole number may stand for a float; True is no number, though Python takes it for one.
        wanted = (int, float) if kind is float else kind
        if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
            yield InputError(flag, "not of the right kind", found=repr(value), expected=kind.__name__)
        else:
            try:
                _check(flag, value, value, kind, field)
            except InputError as error:
                yield error


def _convert(flag: str, text: Any, options: type[Any], field: Field[Any]) -> Any:
    kind, optional = _kinds(options, field)
    if kind is bool:
        return text
    if optional and text == "none":
        return None
    value = text
    if kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            raise InputError(
                flag, "not a number", found=repr(text), expected=_expected(kind, field)
            ) from None
    _check(flag, value, text, kind, field)
    return value


def _check(flag: str, value: Any, shown: Any, kind: type, field: Field[Any]) -> None:
    """Raises InputError if a value of the right kind is out of its range or none of its choices."""
    choices = field.metadata.get("choices")
    if kind is int and value > LARGEST and not getattr(field.metadata.get("range"), "maximum", None):
        raise InputError(flag, "out of range", found=shown, expected=f"a whole number at most {LARGEST}")
    if kind in (int, float) and value not in (field.metadata.get("range") or Range()):
        raise InputError(flag, "out of range", found=shown, expected=_expected(kind, field))
    if choices and value not in choices:
        raise unknown_name(flag, "choice", value, choices)


def _expected(kind: type, field: Field[Any]) -> str:
    bounds = field.metadata.get("range")
    return {int: "a whole number", float: "a number"}[kind] + (f" {bounds}" if bounds else "")
