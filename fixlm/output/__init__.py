"""Output layers: from hidden states to the probability of the next word.

`fixlm.output.registry` lists them, `fixlm.output.layer` holds what they have in common, each other file is one of them.
Importing this package is cheap: torch comes with the first layer that is built.
"""

from fixlm.output.registry import build, names

__all__ = ["build", "names"]
