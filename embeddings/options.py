"""Options as frozen dataclasses whose values are checked where an object is made.

A field's annotation says what it may be, `option` adds the line of help::

    @dataclass(frozen=True)
    class Options(Checked):
        window: Count = option(5, "largest distance between a word and its context")
        weights: Literal["harmonic", "flat"] = option("harmonic", "what a pair counts by its distance")

pydantic does the checking. It is imported when the first object is made, so that ``--help``, which makes none, stays
fast.
"""

import dataclasses
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from annotated_types import BaseMetadata, Ge, Gt, Le, Lt

from embeddings.errors import InputError, InputErrors, unknown_name

LARGEST = 2**32 - 1
"""No size, step or seed is larger, and the libraries below take no number of any size."""

Count = Annotated[int, Ge(1), Le(LARGEST)]
Natural = Annotated[int, Ge(0), Le(LARGEST)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Rate = Annotated[float, Ge(0), Lt(1)]

KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
WORDS = {Ge: "at least", Gt: "above", Le: "at most", Lt: "below"}
OUT_OF_RANGE = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number")
"""The types of pydantic's errors that are about the size of a number."""


def option(default: Any, help: str, **more: Any) -> Any:
    """A dataclass field with its line of help.

    Args:
        default: its value where none is given.
        help: the line in ``--help``.
        more: ``before``, the value in runs that are older than the field; ``place``, where ``--help`` shows the flag;
            ``alias``, another name of the flag.
    """
    return dataclasses.field(default=default, metadata={"help": help, **more})


class Checked:
    """Base of dataclasses that refuse a wrong value when they are made.

    Raises:
        InputError: for the wrong value, under the name of its field, or `InputErrors` with one for each of several.
    """

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class NoOptions(Checked):
    """The options of a method whose rule leaves nothing to choose."""


@dataclass(frozen=True)
class Kind:
    """What a field may hold: a type, perhaps None, perhaps one of some words, perhaps within bounds."""

    annotation: Any
    type: type
    optional: bool
    choices: tuple[str, ...]
    bounds: tuple[BaseMetadata, ...]

    def __str__(self) -> str:
        bounds = [f"{WORDS[type(bound)]} {_limit(bound):.12g}" for bound in self.bounds if _limit(bound) != LARGEST]
        return f"{KINDS[self.type]} {' and '.join(bounds)}".rstrip()


def kinds(options: type[Any]) -> dict[str, Kind]:
    """The `Kind` of each field of a dataclass; ``metadata["choices"]`` of a plain one counts too."""
    hints = typing.get_type_hints(options, include_extras=True)
    return {
        field.name: _kind(hints[field.name], field.metadata.get("choices")) for field in dataclasses.fields(options)
    }


def check(options: Any) -> None:
    """Checks every value of a dataclass, as if it came from Python or JSON: ``"3"`` is no number.

    Raises:
        InputError: for the wrong value, or `InputErrors` for several.
    """
    found = kinds(type(options))
    InputErrors.raise_if_any(
        [error for name, kind in found.items() for error in _problems(name, getattr(options, name), kind)]
    )


def parse(name: str, given: Any, kind: Kind) -> Any:
    """A value from the command line, ``"0.1"`` or ``"none"``, or from Python, as the field takes it.

    Raises:
        InputError: it is of the wrong kind, no choice, or out of range.
    """
    if kind.optional and given == "none":
        return None
    if isinstance(given, str) and kind.type in (int, float):
        from pydantic import ValidationError

        try:
            return _adapter(kind.annotation).validate_strings(given)
        except ValidationError as error:
            raise _explained(name, given, kind, error.errors()[0]["type"], text=True) from None
    InputErrors.raise_if_any([*_problems(name, given, kind)])
    return given


def rising_numbers(name: str, text: str) -> list[int]:
    """The numbers of a list such as ``1,2,30``.

    Raises:
        InputError: one is not whole and positive, or not above the one before it.
    """
    parts = text.split(",")
    numbers = [int(part) if part.isdecimal() and len(part) <= len(str(LARGEST)) else 0 for part in parts]
    if min(numbers) < 1 or numbers != sorted({*numbers}) or max(numbers) > LARGEST:
        expected = "rising whole numbers, such as 1,2,30"
        raise InputError(name, "not a list of numbers", found=f"'{text}'", expected=expected)
    return numbers


def _problems(name: str, value: Any, kind: Kind) -> Iterator[InputError]:
    from pydantic import ValidationError

    if value is None and kind.optional:
        return
    if kind.choices and isinstance(value, str):
        if value not in kind.choices:
            yield unknown_name(name, "choice", value, kind.choices)
        return
    try:
        _adapter(kind.annotation).validate_python(value, strict=True)
    except ValidationError as error:
        yield _explained(name, value, kind, error.errors()[0]["type"])


def _explained(name: str, value: Any, kind: Kind, error: str, *, text: bool = False) -> InputError:
    if error in OUT_OF_RANGE:
        return InputError(name, "out of range", found=value, expected=kind)
    what = "not a number" if text else "not of the right kind"
    return InputError(name, what, found=repr(value), expected=kind)


def _kind(annotation: Any, choices: Sequence[str] | None) -> Kind:
    optional = typing.get_origin(annotation) in (types.UnionType, typing.Union)
    if optional:
        (annotation,) = (member for member in typing.get_args(annotation) if member is not types.NoneType)
    bare, bounds = annotation, tuple[Any, ...]()
    if typing.get_origin(annotation) is Annotated:
        bare, *rest = typing.get_args(annotation)
        bounds = tuple(rest)
    if typing.get_origin(bare) is Literal:
        choices, bare = typing.get_args(bare), str
    if bare is int and not bounds:
        bounds = (Ge(-LARGEST), Le(LARGEST))
        annotation = Annotated[int, *bounds]
    return Kind(annotation, bare, optional, tuple(choices or ()), bounds)


def _limit(bound: Any) -> float:
    (field,) = dataclasses.fields(bound)
    limit: float = getattr(bound, field.name)
    return limit


@cache
def _adapter(annotation: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter

    return TypeAdapter(annotation, config=ConfigDict(allow_inf_nan=False))
