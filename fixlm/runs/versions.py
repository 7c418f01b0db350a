"""What a run was made with."""

import platform
from importlib.metadata import version

from fixlm import __version__

LIBRARIES = ("torch", "numpy", "scipy", "gensim", "datasets", "sentencepiece", "safetensors")


def versions() -> dict[str, str]:
    """Of this program, Python, the libraries, and the kind of processor."""
    found = {library: version(library) for library in LIBRARIES}
    return {"fixlm": __version__, "python": platform.python_version(), "machine": platform.machine(), **found}
