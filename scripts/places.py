"""Where a program is to write its figures, looked at before minutes are spent on them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from fixlm.errors import InputError


def require_places(**files: str | None) -> None:
    """Raises InputError where a file, by the name of its flag, could not be written when all is done."""
    for flag, path in files.items():
        if path is not None and not Path(path).absolute().parent.is_dir():
            raise InputError(f"--{flag}", "there is no such directory", found=Path(path).parent)
    if files.get("plot") is not None and importlib.util.find_spec("matplotlib") is None:
        raise InputError("--plot", "matplotlib is not installed", fix="pip install matplotlib")
