"""Builds an output matrix from a corpus, writes it, and prints what it is like.

python scripts/build_embeddings.py pmi --data sample --dim 256 --seed 1 --out pmi.safetensors
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embeddings import registry
from embeddings.options import Checked, Count, Natural, option
from fixlm.cli import run
from fixlm.config.command_line import Parser, add_options, naming_flags, read_options
from fixlm.config.schema import DataConfig
from fixlm.errors import InputError, InputErrors

if TYPE_CHECKING:
    from embeddings import OutputMatrix
    from embeddings.diagnostics import Diagnostics

PROGRAM = "build_embeddings.py"
DEFAULT_DIM = 512


@dataclass(frozen=True)
class Settings(Checked):
    """The flags that every method has."""

    out: str | None = option(
        None, "the file to write. Its name ends in .safetensors, in .txt or .vec (word2vec text), or in .bin (binary)"
    )
    dim: Count | None = option(
        None, f"N, the length of a vector (none: {DEFAULT_DIM}, or what the file or the options of the method say)"
    )
    seed: Natural = option(1, "seed of all that is random in the matrix")
    dask: str | None = option(
        None,
        "address of a Dask scheduler, such as tcp://host:8786. Its workers count which words stand together; the "
        "matrix is the same (none: this process counts)",
    )


def command(arguments: Sequence[str]) -> None:
    """Parses the arguments, builds, writes and prints."""
    if not arguments or arguments[0].startswith("-"):
        _overview(arguments)
        return
    method = arguments[0]
    settings, data, options = parse(method, arguments[1:])

    from embeddings import build
    from embeddings.dask_cluster import connected
    from embeddings.diagnostics import diagnose
    from embeddings.output_matrix import check_export, check_words
    from fixlm.console import progress
    from fixlm.corpus import corpus

    path = check_export(settings.out or "")
    with progress() as show, naming_flags(options, dim="--dim", dask="--dask"), connected(settings.dask) as client:
        text = corpus.load(**vars(data), progress=show)
        statistics = dataclasses.replace(text.statistics(), client=client)
        check_words(path, statistics.words)
        started = time.monotonic()
        own_dim = getattr(registry.get(method), "OWN_DIM", False)
        dim = DEFAULT_DIM if settings.dim is None and not own_dim else settings.dim
        # Always built anew, so that the time shown is that of building.
        matrix = build(method, statistics, dim, settings.seed, options, show)
        seconds = time.monotonic() - started
        matrix.export(path, statistics.words)
        measured = diagnose(matrix.vectors, statistics.words, statistics.counts, progress=show)
    print_report(matrix, measured, written=str(path), seconds=seconds)


def parse(method: str, arguments: Sequence[str]) -> tuple[Settings, DataConfig, Any]:
    """The common settings, the text and the method's own options; every wrong value is reported at once."""
    module = registry.get(method, where="METHOD")
    parser = Parser(prog=f"{PROGRAM} {method}", description=module.SUMMARY)
    add_options(parser.add_argument_group("every method"), Settings)
    add_options(parser.add_argument_group("text", DataConfig.__doc__), DataConfig)
    add_options(parser.add_argument_group(f"{method} only"), module.Options)
    given = parser.parse_args(list(arguments))
    results, errors = [], []
    for kind in (Settings, DataConfig, module.Options):
        try:
            results.append(read_options(given, kind))
        except InputError as error:
            errors += error.errors
    if vars(given).get("out", "none") == "none":  # a flag's word for None
        errors.append(InputError("--out", "no file to write is named", fix="add --out FILE.safetensors"))
    if vars(given).get("dask", "none") != "none" and not getattr(module, "COUNTS_PAIRS", False):
        errors.append(InputError("--dask", f"{method} counts no pairs of words", fix="leave it out"))
    InputErrors.raise_if_any(errors)
    return results[0], results[1], results[2]


def print_report(matrix: OutputMatrix, measured: Diagnostics, *, written: str, seconds: float) -> None:
    """Prints a matrix's measurements and the neighbours of some words to stdout."""
    from rich.table import Table

    from fixlm.console import rich_console

    sample = "" if measured.coherence_rows == measured.size else f", of {measured.coherence_rows:,} sampled rows"
    lines = {
        "method": matrix.recipe["method"],
        "V × N": f"{measured.size:,} × {measured.dim:,}",
        "coherence": f"{measured.coherence:.4f} (Welch bound {measured.welch_bound:.4f}{sample})",
        "rank": f"{measured.rank:,} of {min(measured.size, measured.dim):,}",
        "row norms": f"{measured.norm_min:.4f} to {measured.norm_max:.4f}, mean {measured.norm_mean:.4f}",
        "distinct rows": f"{measured.distinct_rows:,} of {measured.size:,}",
        "SHA-256": matrix.sha256,
        "built in": f"{seconds:.1f} s",
        "written": written,
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in lines.items():
        table.add_row(name, value)
    # In a file or a pipe, where there is no width, a path or a SHA-256 stays on one line.
    screen = rich_console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 120)
    screen.print(table, soft_wrap=False)
    if measured.neighbours:
        title = "nearest neighbours (cosine)"
        nearest = Table("word", "neighbours", box=None, pad_edge=False, title=title, title_justify="left")
        for word, others in measured.neighbours.items():
            nearest.add_row(word, "  ".join(f"{other} {cosine:.2f}" for other, cosine in others))
        screen.print()
        screen.print(nearest)


def _overview(arguments: Sequence[str]) -> None:
    """The methods, for --help; anything else before the method is an error."""
    if not arguments or arguments[0] not in ("-h", "--help"):
        raise InputError(
            "METHOD", "comes first", found=arguments[0] if arguments else "nothing",
            expected=" | ".join(registry.names()), fix=f"python scripts/{PROGRAM} METHOD --out FILE",
        )  # fmt: skip
    print(f"usage: {PROGRAM} METHOD --out FILE [flags]\n\n{__doc__}")
    width = max(map(len, registry.names()))
    for name in registry.names():
        print(f"  {name:{width}}  {registry.get(name).SUMMARY}")
    print(f"\n{PROGRAM} METHOD --help lists the flags of a method.")


if __name__ == "__main__":
    sys.exit(run(command))
