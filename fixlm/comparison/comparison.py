"""A comparison from its plan to its table: look at what is there, train what is left, write what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fixlm.comparison import plots
from fixlm.comparison.find_runs import discover, survey
from fixlm.comparison.plan import PLAN, Plan, PlannedRun, Setting, grouping, write_plan
from fixlm.comparison.rows import Row, best_by_validation, rows_of, sort_rows
from fixlm.comparison.stored_run import DONE, FAILED, StoredRun
from fixlm.comparison.table import remove_tables, write_tables
from fixlm.config.schema import DataConfig
from fixlm.console import progress
from fixlm.corpus import corpus
from fixlm.corpus.corpus import Corpus
from fixlm.errors import InputError, InputErrors


@dataclass(frozen=True)
class Comparison:
    """What a comparison came to.

    Args:
        directory: where its runs, tables and plots are.
        rows: one a setting, by mean validation perplexity.
    """

    directory: Path
    rows: Sequence[Row]

    @property
    def failed(self) -> list[StoredRun]:
        """The runs that failed."""
        return [run for row in self.rows for run in row.runs if run.state == FAILED]


def compare(
    directory: str | Path,
    settings: Sequence[Setting],
    seeds: Sequence[int] = (1, 2, 3),
    common: Mapping[str, Any] | None = None,
    *,
    jobs: int = 1,
    table_only: bool = False,
    best_by: str | None = None,
) -> Comparison:
    """Trains what is not done of settings × seeds, one seed of every setting first; writes table and plots.

    Args:
        directory: holds a directory for each run, ``plan.json``, ``table.md``, ``.csv``, ``.json`` and the plots.
        common: flags of ``fixlm.train`` for all settings that do not give their own.
        jobs: runs trained at a time, in processes of their own.
        table_only: train nothing, and take what is there.
        best_by: a flag; of the rows with the same value of it the one with the best validation perplexity goes into
            ``best.md``, ``best.csv`` and ``best.json`` too.

    Raises:
        InputError: something is wrong with a setting, the text, or what is in the directory; raised
            before anything is trained. What goes wrong in a run stands in its row.
        Interrupted: a signal came; everything is saved, and the table is that of what is done.
    """
    plan, best_by = Plan(settings, seeds, common or {}), best_by and grouping(best_by)
    if table_only:
        return tabulate(Path(directory), plan, best_by)
    return train_plan(Path(directory), plan, jobs, best_by)


def train_plan(directory: Path, plan: Plan, jobs: int = 1, best_by: str | None = None) -> Comparison:
    """`compare`, of a plan."""
    planned = plan.runs(directory)
    runs = survey(planned)
    texts = _texts(planned, runs)
    if texts:
        survey(planned, {each.path: texts[each.config.data].sha256 for each in planned if each.config})
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_plan(directory / PLAN, plan)
    except OSError as error:
        raise InputError(directory, "cannot be written", found=error.strerror) from None
    from fixlm.comparison.runner import Runner

    lengths = {each.path: len(texts[each.config.data].splits["train"]) for each in planned if each.config and texts}
    del texts  # the runs read their own
    runner = Runner(planned, runs, lengths, jobs)
    try:
        runner.run()
    except BaseException:
        if any(run.config for run in runner.runs):
            _write(directory, rows_of(planned, runner.runs), best_by)
        raise
    return _write(directory, rows_of(planned, runner.runs), best_by)


def tabulate(directory: Path, plan: Plan | None = None, best_by: str | None = None) -> Comparison:
    """Table and plots of what is there: of the plan's runs, or of every run below the directory.

    Raises:
        InputError: there is no run, or a directory holds another run than the plan has.
    """
    if plan is None:
        rows, notes = discover(directory)
        return _write(directory, rows, best_by, notes)
    # A file of vectors may be gone, and the runs made with it are still there.
    planned = plan.runs(directory, trusting=True)
    runs = survey(planned)
    if not any(run.config for run in runs):
        raise InputError(directory, "no run of this comparison is there", expected=planned[0].path.name)
    return _write(directory, rows_of(planned, runs), best_by)


def _texts(planned: Sequence[PlannedRun], runs: Sequence[StoredRun]) -> dict[DataConfig, Corpus]:
    """The texts of the grid; none where nothing is left to train and no text may be another one."""
    from fixlm.evaluation.ngrams import check_order
    from fixlm.training.fit import check_length

    configs = [each.config for each in planned if each.config]
    asked_for = [run.config and run.config["data"]["data"] for run in runs]
    there = [config.data.data for config in configs]
    if asked_for == there and all(run.state == DONE for run in runs):
        return {}
    texts: dict[DataConfig, Corpus] = {}
    errors: dict[str, InputError] = {}
    for config in configs:
        try:
            if config.data not in texts:
                with progress() as show:
                    texts[config.data] = corpus.load(**vars(config.data), progress=show)
            check_length(config, texts[config.data])
            if config.run.ngram_order:
                check_order(texts[config.data], config.run.ngram_order)
        except InputError as error:
            errors |= {str(each): each for each in error.errors}
    InputErrors.raise_if_any([*errors.values()])
    return texts


def _write(directory: Path, rows: Sequence[Row], best_by: str | None, notes: Sequence[str] = ()) -> Comparison:
    """All that a comparison leaves beside its runs."""
    rows = sort_rows(rows)
    write_tables(directory, rows, notes)  # before the plots: whatever becomes of them, the figures are there
    if of_plots := plots.draw(rows, directory):
        write_tables(directory, rows, [*notes, *of_plots])
    if best_by is not None:
        write_tables(directory, best_by_validation(rows, best_by), notes, "best")
    else:
        remove_tables(directory, "best")  # of an earlier command, about rows that may have changed
    return Comparison(directory, rows)
