"""The exceptions for everything that a user's input can get wrong."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class InputError(ValueError):
    """Something in the user's input is wrong; printed as one line, without a traceback.

    Args:
        where: a flag, a ``file:line`` or a key.
        what: what is wrong, in a few words.
        found: what stands there.
        expected: what would have been right.
        fix: what to do about it. An option stands in backquotes there, so that `at` can put its flag.
    """

    def __init__(
        self, where: object, what: str, *, found: object = None, expected: object = None, fix: str | None = None
    ) -> None:
        sides = [f"found {found}"] if found is not None else []
        sides += [f"expected {expected}"] if expected is not None else []
        line = f"{where}: {what}" + (f" ({', '.join(sides)})" if sides else "") + "."
        super().__init__(" ".join((line + (f" Fix: {fix}" if fix else "")).split()))
        self.where = str(where)
        self.errors = [self]
        self._rest: dict[str, Any] = {"what": what, "found": found, "expected": expected, "fix": fix}

    def at(self, where: object, flags: Mapping[str, str] | None = None) -> "InputError":
        """The same error at another place: a builder names an option, its caller knows the flag.

        Args:
            where: what the new error names.
            flags: the flag of each option, which replaces the option's name in ``fix``.
        """
        rest = dict(self._rest)
        if flags and rest["fix"]:
            rest["fix"] = re.sub(r"`(\w+)`", lambda option: flags.get(option[1], option[0]), rest["fix"])
        return InputError(where, **rest)

    @property
    def fix(self) -> str | None:
        """What to do about it."""
        return self._rest["fix"]

    def with_fix(self, fix: str) -> "InputError":
        """The same error with another way to mend it."""
        return InputError(self.where, **(self._rest | {"fix": fix}))

    def inside(self, prefix: object) -> "InputErrors":
        """The same error, or errors, with something in front of their places, such as a file's name."""
        return InputErrors([each.at(f"{prefix}{each.where}") for each in self.errors])


class InputErrors(InputError):
    """Several things are wrong at once; each is reported on a line of its own."""

    def __init__(self, errors: Sequence[InputError]) -> None:
        ValueError.__init__(self, "\n".join(map(str, errors)))
        self.errors, self.where = list(errors), ""

    @staticmethod
    def raise_if_any(errors: Sequence[InputError]) -> None:
        """Raises the one error as it is, several together, and nothing for none."""
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise InputErrors(errors)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``Did you mean 'pmi'? `` with the known name that is nearest; nothing if none is near."""
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"Did you mean '{near[0]}'? " if near else ""


def unknown_name(where: object, kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that no registry holds, with the nearest known one and the list of all."""
    known = sorted(known)
    fix = f"{did_you_mean(name, known)}Choose one of: {', '.join(known)}"
    return InputError(where, f"unknown {kind} '{name}'", fix=fix)
