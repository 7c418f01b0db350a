"""``python -m fixlm.export RUN DIR``: a trained run as a folder to share, as the Hugging Face hub expects it."""

from __future__ import annotations

import dataclasses
import sys

from embeddings.options import Checked, option
from fixlm.cli import run
from fixlm.config.command_line import Parser, add_options, read_options
from fixlm.errors import InputError

EPILOGUE = """\
examples:
  python -m fixlm.export runs/sample-pmi-512-seed1 shared
  python -m fixlm.export runs/sample-pmi-512-seed1 shared --push me/my-model --private"""


@dataclasses.dataclass(frozen=True)
class ExportConfig(Checked):
    """What to write, and where it goes."""

    checkpoint: str = option("best", "which checkpoint: best, last or step-N")
    vectors: bool = option(True, "write the output matrix as word2vec text too")
    push: str | None = option(None, "repository of the Hugging Face hub, OWNER/NAME, to upload the folder to")
    private: bool = option(False, "a repository that --push makes is private")


def command(arguments: list[str], program: str = "python -m fixlm.export") -> None:
    """Parses, writes, uploads, prints."""
    parser = Parser(prog=program, description=__doc__.partition(": ")[2], epilog=EPILOGUE)
    parser.add_argument("run", metavar="RUN", help="a run directory")
    parser.add_argument("folder", metavar="DIR", help="the folder to write: new, empty, or of an earlier export")
    add_options(parser, ExportConfig)
    given = vars(parser.parse_args(arguments))
    config = read_options(given, ExportConfig)
    where = f"--push {config.push}"
    if config.private and config.push is None:
        raise InputError("--private", "nothing is uploaded", fix="add --push OWNER/NAME")
    from fixlm.evaluation.run import load

    if config.push is not None:
        from fixlm.evaluation.hub import push, require_login

        require_login(where)
    files = load(given["run"], config.checkpoint).export(given["folder"], vectors=config.vectors)
    for name, size in files.items():
        print(f"{size:>13,}  {given['folder']}/{name}")
    if config.vectors and "output_vectors.txt" not in files:
        print("There is no output_vectors.txt: the output layer of this run has no single matrix of words.")
    if config.push is not None:
        print(push(given["folder"], config.push, where, private=config.private))


if __name__ == "__main__":
    sys.exit(run(command))
