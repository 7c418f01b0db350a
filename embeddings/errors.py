"""The one exception family for everything that a user's input can get wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class InputError(ValueError):
    """Something in the user's input is wrong; printed as one line, without a traceback.

    Args:
        where: a flag, a ``file:line`` or a key.
        what: what is wrong, in a few words.
        found: what stands there.
        expected: what would have been right.
        fix: what to do about it.
    """

    def __init__(
        self,
        where: object,
        what: str,
        *,
        found: object = None,
        expected: object = None,
        fix: str | None = None,
    ) -> None:
        sides = [f"found {found}"] if found is not None else []
        sides += [f"expected {expected}"] if expected is not None else []
        line = f"{where}: {what}" + (f" ({', '.join(sides)})" if sides else "") + "."
        super().__init__(" ".join((line + (f" Fix: {fix}" if fix else "")).split()))
        self.where = str(where)
        self._rest: dict[str, Any] = {"what": what, "found": found, "expected": expected, "fix": fix}

    def at(self, where: object) -> InputError:
        """The same error at another place: a builder names an option, its caller knows the flag."""
        return InputError(where, **self._rest)


def unknown_name(where: object, kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that no registry holds, with the nearest known one and the list of all."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean '{near[0]}'? " if near else ""
    return InputError(where, f"unknown {kind} '{name}'", fix=f"{hint}Choose one of: {', '.join(known)}")
