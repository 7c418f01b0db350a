"""How the runs of a comparison stand: what their directories hold, and whether it is what the plan asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fixlm.comparison.rows import Row
from fixlm.comparison.stored_run import StoredRun
from fixlm.config.read import by_flag
from fixlm.errors import InputError, InputErrors
from fixlm.runs.directory import RunDirectory
from fixlm.runs.resume_check import changed_files
from fixlm.runs.status import parse_status, read_status
from fixlm.runs.summary import SUMMARIES, read_summaries, read_summary, summary_path

if TYPE_CHECKING:
    from fixlm.comparison.plan import PlannedRun


def read_run(path: Path, seed: int | None = None) -> StoredRun:
    """The run in a directory or a summary, whatever run it is.

    Raises:
        InputError: it cannot be read.
    """
    if path.is_file():
        return _of_summary(read_summary(path), path)
    directory = RunDirectory(path)
    config, result, status = (directory.read_config(), directory.read_result(), read_status(directory.status))
    seed = config["optimization"]["seed"] if seed is None else seed
    return StoredRun(seed, path, config, result, status, directory.read_metrics)


def _of_summary(summary: Mapping[str, Any], path: Path, file: Path | None = None) -> StoredRun:
    config, status, metrics = summary["config"], parse_status(summary["status"]), summary["metrics"]
    return StoredRun(config["optimization"]["seed"], path, config, summary["result"], status, metrics.copy, file)


def survey(planned: Sequence[PlannedRun], corpora: Mapping[Path, str] | None = None) -> list[StoredRun]:
    """The runs of a plan, as far as they are there.

    Args:
        corpora: SHA-256 of the text by run directory; without it, the text of a run is not compared: where the text
            lay when the run was trained says nothing by itself.

    Raises:
        InputErrors: one for each directory that holds something else than its run.
    """
    errors: list[InputError] = []
    found = []
    directories = {each.path.parent for each in planned}
    together = {directory: read_summaries(directory / SUMMARIES) for directory in directories}
    for each in planned:
        try:
            corpus = None if corpora is None else corpora.get(each.path)
            found.append(_look(each, corpus, together[each.path.parent]))
        except InputError as error:
            errors += error.errors
    InputErrors.raise_if_any(errors)
    return found


def _look(planned: PlannedRun, corpus: str | None, together: Mapping[str, Any]) -> StoredRun:
    """One run of a plan, in its directory or in a summary beside it; refuses another run that lies there."""
    path, directory = planned.path, RunDirectory(planned.path)
    if not path.exists() and summary_path(path).is_file():
        run = read_run(summary_path(path))
    elif not path.exists() and path.name in together:
        run = _of_summary(together[path.name], path, path.with_name(SUMMARIES))
    elif not directory.config.is_file():
        if path.exists() and not directory.is_free():
            what = "there is something in it, but no run"
            raise InputError(path, what, fix="another directory for the comparison, or remove it")
        return StoredRun(planned.seed, path)
    else:
        run = read_run(path, planned.seed)
    assert run.config is not None
    if planned.config is not None:
        asked, there = by_flag(planned.config.to_json()), by_flag(run.config)
        different = [
            f"{flag} {there.get(flag)}, not {value}"
            for flag, value in asked.items()
            if flag != "--data" and there.get(flag) != value
        ]
        different += [f"{flag} with another content" for flag in changed_files(run.config, planned.config)]
        every, before = planned.config.run.validate_every, run.config["run"]["validate_every"]
        if planned.config.optimization.validations_decide and every != before:
            different.append(f"--validate-every {before}, not {every}")
        if corpus is not None and run.config["corpus"]["sha256"] != corpus:
            different.append(f"--data with another text ({run.config['corpus']['name']})")
        if different:
            what = "a run of other settings is there"
            fix = "another directory for the comparison, or another name for the setting"
            where = f"{run.file}, {path.name}" if run.file else run.path
            raise InputError(where, what, found=", ".join(different), fix=fix)
    return run


def discover(directory: Path) -> tuple[list[Row], list[str]]:
    """Rows of all runs below a directory that no plan describes: runs that differ only in the seed are one row.

    Returns:
        The rows, and a note about each directory or summary that looks like a run and cannot be read.

    Raises:
        InputError: there is no run, or the file with several summaries is damaged.
    """
    groups: dict[str, list[StoredRun]] = {}
    notes = []
    together = read_summaries(directory / SUMMARIES)
    paths = [path.parent for path in directory.glob("*/config.json")]
    paths += [path for path in directory.glob("*-seed*.json") if not path.with_suffix("").is_dir()]
    paths += [path for name in together if not ((path := directory / name).exists() or summary_path(path).is_file())]
    for path in sorted(paths):
        try:
            run = read_run(path) if path.exists() else _of_summary(together[path.name], path, directory / SUMMARIES)
        except InputError as error:
            notes.append(f"{path.name} is left out: {str(error).splitlines()[0]}")
            continue
        assert run.config is not None
        same = by_flag(run.config) | {"--seed": 0, "--data": run.config["corpus"]["sha256"]}
        key = repr(sorted(same.items()))
        # The same run twice is no second seed.
        while run.seed in {other.seed for other in groups.get(key, ())}:
            key += " again"
        groups.setdefault(key, []).append(run)
    if not groups:
        raise InputError(directory, "there is no run below it", fix="name the grid: --output-embed tied,pmi")
    rows = []
    for runs in groups.values():
        runs.sort(key=lambda run: run.seed)
        rows.append(Row(re.sub(r"(-seed\d+)?(\.json)?$", "", runs[0].path.name, count=1), runs))
    alike = [row.name for row in rows]
    return [Row(row.runs[0].path.name, row.runs) if alike.count(row.name) > 1 else row for row in rows], notes
