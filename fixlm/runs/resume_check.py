"""Whether what a command asks for agrees with the run that it goes on with: settings, and text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fixlm.config.command_line import flag_name
from fixlm.config.schema import GROUPS, RUN_SETTINGS, RunConfig
from fixlm.config.train_config import TrainConfig
from fixlm.errors import InputError, InputErrors

if TYPE_CHECKING:
    from fixlm.corpus.corpus import Corpus
    from fixlm.runs.directory import RunDirectory

LAYER = "output-embed"


@dataclass(frozen=True)
class Difference:
    """A setting that two configurations have different values for; ``group`` is a method's name for its options."""

    group: str
    name: str
    flag: str
    now: object
    before: object


def differences(asked: Mapping[str, Any], stored: Mapping[str, Any]) -> Iterator[Difference]:
    """Where the configuration ``asked`` differs from the ``stored`` one, both as `TrainConfig.to_json` gives them."""
    groups = {name: (asked[name], stored[name]) for name in ("data", "model", "optimization")}
    groups |= {name: (mine, stored["matrices"].get(name, {})) for name, mine in asked["matrices"].items()}
    for group, (mine, theirs) in groups.items():
        prefix = "" if group in GROUPS else group
        for name, now in mine.items():
            # The options of another layer have no counterpart; that the layer differs is told already.
            if name in theirs and now != theirs[name]:
                yield Difference(group, name, flag_name(name, prefix), now, theirs[name])


def raise_for(differing: Sequence[Difference], what: str, fix: str) -> None:
    """Raises InputErrors with a line for each difference, if there is one."""
    InputErrors.raise_if_any(
        [
            InputError(each.flag, what, found=_shown(each.now), expected=_shown(each.before), fix=fix)
            for each in differing
        ]
    )


def _shown(value: object) -> object:
    return "none" if value is None else value


def flags_of_run(given: Mapping[str, Any]) -> dict[str, Any]:
    """The flags of the run that a command goes on with, by name without dashes; none where it begins one.

    Args:
        given: the command's own. One that names another output layer is told so, and no more.
    """
    from fixlm.config.read import by_flag, by_name
    from fixlm.runs.directory import RunDirectory

    given = by_name(given)
    if not (given.get("resume") and given.get("run")):
        return {}
    try:
        stored = by_flag(RunDirectory(given["run"]).read_config())
    except InputError:  # told where the run is opened
        return {}
    if given.get(LAYER, stored[f"--{LAYER}"]) != stored[f"--{LAYER}"]:
        return {}
    return {flag.removeprefix("--"): value for flag, value in stored.items() if value is not None}


def resumed_config(run: RunDirectory, given: Mapping[str, Any], config: TrainConfig) -> TrainConfig:
    """The stored configuration, with this command's run settings.

    Args:
        given: the flags of this command, by name without dashes.
        config: what they describe.

    Raises:
        InputErrors: one for each flag that was given and differs from what the run was started with, but for the place
            of the text.
    """
    stored = run.read_config()
    if "export" in stored:
        fix = "resume the run that it was exported from"
        raise InputError(f"--run {run.path}", "an exported run has no state of the training", fix=fix)
    asked = [
        difference
        for difference in differences(config.to_json(), stored)
        if difference.flag.removeprefix("--") in given and difference.flag != "--data"
    ]
    every, before = config.run.validate_every, stored["run"]["validate_every"]
    decides = TrainConfig.from_json(stored).optimization.validations_decide
    if decides and "validate-every" in given and every != before:
        asked.append(Difference("run", "validate_every", "--validate-every", every, before))
    raise_for(asked, "differs from the run to resume", "drop the flag, or start another run")
    settings = {
        name: getattr(config.run, name) if flag_name(name).removeprefix("--") in given else stored["run"][name]
        for name in RUN_SETTINGS
    }
    if "data" in given:  # the text may have moved: `check_corpus` compares what it holds
        stored |= {"data": stored["data"] | {"data": config.data.data}}
    return TrainConfig.from_json(stored, RunConfig(run=str(run.path), resume=True, **settings))


def check_corpus(run: RunDirectory, corpus: Corpus) -> None:
    """Raises InputError if the corpus is not the one that the run was trained on; shows how the two differ."""
    before, now = run.read_config()["corpus"], corpus.description()
    if any(now[key] != before.get(key) for key in ("sha256", "vocabulary_size")):
        fix = "give the run's own text by --data, or start another run"
        raise InputError(
            "--data", "not the corpus of this run", found=_in_words(now), expected=_in_words(before), fix=fix
        )


def changed_files(stored: Mapping[str, Any], config: TrainConfig) -> Iterator[str]:
    """The flags whose file of vectors is another one than when the run was trained.

    Args:
        stored: the run's ``config.json``; older ones do not know.
    """
    before = stored.get("files", {})
    for flag, sha256 in config.hashes_of_files().items():
        if before.get(flag, sha256) != sha256:
            yield flag


def check_files(run: RunDirectory, config: TrainConfig) -> None:
    """Raises InputErrors if files of vectors are others than those that the run was trained with."""
    what, fix = "not the file that this run was trained with", "bring the old one back, or start another run"
    InputErrors.raise_if_any([InputError(flag, what, fix=fix) for flag in changed_files(run.read_config(), config)])


def _in_words(corpus: Mapping[str, Any]) -> str:
    tokens = corpus.get("tokens")
    sizes = tokens.values() if isinstance(tokens, dict) else ()
    return f"V = {corpus.get('vocabulary_size')}, {' / '.join(map(str, sizes))} tokens, SHA-256 {corpus['sha256'][:12]}"
