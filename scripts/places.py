"""Where a program is to write its figures, looked at before minutes are spent on them."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from fixlm.errors import InputError


def require_places(**files: str | None) -> None:
    """Raises InputError where a file, by the name of its flag, could not be written when all is done."""
    for flag, path in files.items():
        if path is None:
            continue
        folder = Path(path).absolute().parent
        if not folder.is_dir():
            raise InputError(f"--{flag}", "there is no such directory", found=Path(path).parent)
        if Path(path).is_dir():
            raise InputError(f"--{flag}", "is a directory", found=path, expected="a file")
        # A file is replaced, for which its folder has to be writable; /dev/null is not.
        replaced = Path(path).is_file() or not Path(path).exists()
        if not os.access(folder if replaced else path, os.W_OK):
            raise InputError(f"--{flag}", "cannot be written", found=path)
    if files.get("plot") is not None and importlib.util.find_spec("matplotlib") is None:
        raise InputError("--plot", "matplotlib is not installed", fix="pip install matplotlib")
