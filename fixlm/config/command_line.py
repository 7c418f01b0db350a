"""Command-line flags out of dataclasses of options: one field, one flag.

Flags take strings. `read_options` converts and checks them all, so that every problem of a command line is reported at
once. What a field may hold stands in its annotation, see `embeddings.options`.
"""

import argparse
import dataclasses
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from embeddings.errors import InputError, InputErrors, did_you_mean
from embeddings.options import Kind, kinds, parse

T = TypeVar("T")


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
            if not unknown.strip():
                raise InputError("command line", "an empty argument", fix="remove it; see --help")
            flag = unknown.split()[0]
            if flag.startswith("-"):
                fix = f"{did_you_mean(flag.split('=')[0], known)}See --help for all flags"
                raise InputError(flag, "unknown flag (flags cannot be abbreviated)", fix=fix)
            raise InputError(flag, "unexpected argument", fix="see --help")
        raise InputError("command line", message, fix="see --help")


@dataclass(frozen=True)
class Flag:
    """A flag of the command line.

    Args:
        name: without dashes in front, as in ``pmi-window``.
        help: one line, without the default.
        default: its value where it is not given.
        kind: what it may be.
        place: where ``--help`` shows it if not in its own group: ``first``, ``ablation`` or ``hidden``.
        alias: another name for the same flag, which help and errors show first.
    """

    name: str
    help: str
    default: Any
    kind: Kind
    place: str | None = None
    alias: str | None = None

    def add_to(self, parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
        """Adds the flag to a parser; a flag that is not given leaves no trace in the namespace."""
        keywords: dict[str, Any] = {
            "dest": self.name,
            "default": argparse.SUPPRESS,
            "help": self._help().replace("%", "%%"),
        }
        if self.kind.type is bool:
            keywords["action"] = argparse.BooleanOptionalAction
        else:
            choices = self.kind.choices
            keywords["metavar"] = "{" + ",".join(choices) + "}" if choices else self.kind.type.__name__.upper()
        spellings = [*([self.alias] if self.alias else []), self.name]
        parser.add_argument(*(f"--{spelling}" for spelling in spellings), **keywords)

    def _help(self) -> str:
        """The line with its default at the end, which a help that ends in ``(none: …)`` says in words."""
        if self.default is None and "(none: " in self.help:
            return self.help.replace("(none: ", "(default: ")
        shown = "none" if self.default is None else self.default
        if isinstance(shown, bool):
            shown = "yes" if shown else "no"
        return f"{self.help} (default: {shown})"


def flag_name(name: str, prefix: str = "") -> str:
    """``hidden_size`` → ``--hidden-size``; with prefix ``pmi``: ``window`` → ``--pmi-window``."""
    return "--" + "-".join(part for part in (prefix, name.replace("_", "-")) if part)


def flags_of(options: type[Any], prefix: str = "", **words: str) -> list[Flag]:
    """The flags of a dataclass.

    Args:
        prefix: put before each flag, as in ``--pmi-window``.
        words: values for names such as ``%(layers)s`` in a line of help.
    """
    found = kinds(options)
    return [
        Flag(
            flag_name(field.name, prefix)[2:],
            field.metadata.get("help", "") % words if words else field.metadata.get("help", ""),
            field.default,
            found[field.name],
            field.metadata.get("place"),
            field.metadata.get("alias"),
        )
        for field in dataclasses.fields(options)
    ]


def add_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup, options: type[Any]) -> None:
    """Adds a flag for each field of a dataclass."""
    for flag in flags_of(options):
        flag.add_to(parser)


def read_options(namespace: argparse.Namespace | Mapping[str, Any], options: type[T], prefix: str = "") -> T:
    """The dataclass that the given flags describe.

    Args:
        namespace: flags by name without dashes in front; strings, or values of the right kind.

    Raises:
        InputErrors: with every flag whose value is of the wrong kind, no choice, or out of its range.
    """
    given = namespace if isinstance(namespace, Mapping) else vars(namespace)
    values, errors = {}, []
    for name, flag in zip(kinds(options), flags_of(options, prefix), strict=True):
        if flag.name in given:
            try:
                # An alias is what help and pages call the flag.
                values[name] = parse(f"--{flag.alias or flag.name}", given[flag.name], flag.kind)
            except InputError as error:
                errors.append(error)
    InputErrors.raise_if_any(errors)
    with naming_flags(options, prefix):
        return options(**values)


def read_command_line(arguments: Sequence[str], options: type[T], description: str | None) -> T:
    """The options of a program whose flags are the fields of one dataclass.

    Raises:
        InputError: a flag is unknown, or its value is wrong.
    """
    parser = Parser(description=description)
    add_options(parser, options)
    return read_options(parser.parse_args(list(arguments)), options)


@contextmanager
def naming_flags(options: Any, prefix: str = "", **others: str) -> Iterator[None]:
    """Turns an error about an option, which is raised under the name of its field, into one about its flag.

    A name in backquotes in the error's fix becomes a flag too.

    Args:
        options: the dataclass, or one of it, whose fields are flags with this prefix.
        others: further names and their flags, such as ``dim="--output-dim"``.
    """
    names = {field.name: flag_name(field.name, prefix) for field in dataclasses.fields(options)} | others
    try:
        yield
    except InputError as error:
        InputErrors.raise_if_any([each.at(names.get(each.where, each.where), names) for each in error.errors])
