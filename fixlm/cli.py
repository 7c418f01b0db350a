"""The console script ``fixlm COMMAND …``, the same as ``python -m fixlm.COMMAND …``."""

import importlib
import sys
from collections.abc import Callable, Sequence

from fixlm.console import log_on_stderr
from fixlm.errors import report, unknown_name

COMMANDS = {
    "train": "train a language model and report its perplexity",
    "evaluate": "perplexity of a trained run",
    "generate": "text that a trained run goes on with",
    "score": "how surprising each word of a text is to a trained run",
    "export": "a trained run as a folder to share",
    "harness": "a trained run scored by lm-evaluation-harness",
    "compare": "train a grid of settings and seeds, and write its table and plots",
}


def run(command: Callable[[list[str]], None], arguments: Sequence[str] | None = None) -> int:
    """Runs the body of an entry point on the given arguments or the process's; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with log_on_stderr():
        return report(lambda: command(arguments), debug="--debug" in arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the console script."""
    return run(_dispatch, arguments)


def _dispatch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        print("usage: fixlm COMMAND …\n")
        print("\n".join(f"  {name:{width}}  {summary}" for name, summary in COMMANDS.items()))
        print("\nfixlm COMMAND --help lists the flags of a command.")
        return
    name, *rest = arguments
    if name not in COMMANDS:
        raise unknown_name("fixlm", "command", name, COMMANDS)
    importlib.import_module(f"fixlm.{name}").command(rest, program=f"fixlm {name}")
