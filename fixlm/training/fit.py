"""Training: a configuration in, a run directory with its result out."""

import logging
import os
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from typing import Any

import torch

from fixlm.config.read import by_name, flag_groups, read_config
from fixlm.config.train_config import TrainConfig
from fixlm.console import progress
from fixlm.corpus import corpus
from fixlm.corpus.corpus import Corpus
from fixlm.errors import InputError, InputErrors, unknown_name
from fixlm.evaluation.ngrams import check_order
from fixlm.evaluation.run import Run, load
from fixlm.model.bfloat16 import multiplies_bfloat16
from fixlm.runs.default_path import check_default_root, default_path
from fixlm.runs.directory import RunDirectory
from fixlm.runs.resume_check import check_corpus, check_files, flags_of_run, resumed_config
from fixlm.runs.status import recorded
from fixlm.training.ranks import Ranks, check_ranks, joined
from fixlm.training.resuming import mend_links
from fixlm.training.trainer import Trainer
from fixlm.training.windows import Windows

logger = logging.getLogger(__name__)


def train(
    config: TrainConfig, given: Mapping[str, Any] | None = None, *, runs_at_a_time: int | None = None
) -> dict[str, Any]:
    """Trains a model, or goes on with one, and scores its best checkpoint.

    Args:
        config: what to train.
        given: the flags that were given, by name without dashes: with ``run.resume`` these have to agree with the
            stored configuration and the rest is taken from it.
        runs_at_a_time: how many runs a comparison trains side by side, for ``status.json``.

    Returns:
        What stands in ``result.json``, with ``run`` (the directory) beside it.

    Raises:
        InputError: something in the configuration, the corpus or the run directory is wrong.
        Interrupted: a signal came; the run is saved and can be resumed.
    """
    if not config.run.resume:  # the run that goes on has its own settings
        set_up_torch(config)
    with joined() as ranks, ExitStack() as held:
        with ranks.together():
            directory = None if config.run.run is None else RunDirectory(config.run.run)
            if directory is None:
                check_default_root()
            else:  # before the corpus is read: what is wrong with the directory is told at once
                config = _open(directory, config, given or {}, held, ranks)
            source = directory.source_of_text(config.data) if directory and config.run.resume else config.data
            with progress() as show:
                text = corpus.load(**vars(source), progress=show)
            if directory is None:
                directory = RunDirectory(default_path(config, text.name))
                config = _open(directory, config, given or {}, held, ranks)
            windows = check_length(config, text)
            check_order(text, config.run.ngram_order)
            if directory.config.exists():
                check_corpus(directory, text)
        if (result := ranks.from_first(lambda: finished(directory, config))) is not None:
            logger.info(f"{directory.path} is finished already; this is its result. Another --run trains anew.")
            if config.run.resume and ranks.writes:
                mend_links(directory.checkpoints, result.get("best_step"))
            order = config.run.ngram_order
            if order not in (0, result.get("with_ngrams", {}).get("order")):
                scores = f"python -m fixlm.evaluate {directory.path} --ngram-order {order} --ngram-tune"
                logger.info(f"Its result is not mixed with {order}-grams: {scores} scores it so.")
            return {"run": str(directory.path), **result}
        status = recorded(directory.status, runs_at_a_time) if ranks.writes else nullcontext(lambda: None)
        with progress() as show, status as begins, ranks.telling():
            trainer = Trainer(config, text, directory, windows, show, ranks)
            begins()
            return trainer.run()


def fit(**settings: Any) -> Run:
    """Trains a language model, as ``python -m fixlm.train`` does, and opens its best checkpoint.

    A run that was stopped goes on with ``resume=True``; one that is finished already is opened as it is.

    Args:
        settings: the flags of ``fixlm.train``, with underscores: ``output_embed="pmi"``, ``data="sample"``,
            ``hidden_size=256``, ``run="runs/first"``, …

    Raises:
        InputError: an argument is unknown, out of range or contradicts another one; a ValueError that names it, before
            any work is done. Or the corpus or the run directory cannot be used.
        Interrupted: a signal came; the run is saved.

    >>> run = fit(output_embed="hadamard", data="sample", hidden_size=64, embed_size=64, max_steps=2, run="runs/first")
    >>> run.perplexity("valid") == run.directory.read_result()["valid"]["perplexity"]
    True
    """
    given = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in settings.items()}
    flags = [flag for group in flag_groups().values() for flag in group]
    known = [name.replace("-", "_") for flag in flags for name in (flag.name, flag.alias) if name]
    for name in given:
        if name not in known:
            raise unknown_name(name, "argument", name, known)
    try:
        config = read_config(given, flags_of_run(given))
    except InputError as error:
        InputErrors.raise_if_any([each.at(each.where.removeprefix("--").replace("-", "_")) for each in error.errors])
        raise
    return load(train(config, by_name(given))["run"])


def train_unless_there(path: str | os.PathLike[str], flags: Mapping[str, Any]) -> str:
    """Trains a run where there is none yet, and goes on with one that was stopped.

    Args:
        path: its directory.
        flags: those of ``fixlm.train`` for a new run, by name without dashes.

    Returns:
        The path.

    Raises:
        InputError: a flag is wrong, or the directory holds something else.
    """
    directory = RunDirectory(path)
    if not directory.config.is_file():
        given = {**flags, "run": str(path)}
    elif directory.read_result() is None:
        given = {"run": str(path), "resume": True}
    else:
        return str(path)
    train(read_config(given), given)
    return str(path)


def _open(
    directory: RunDirectory, config: TrainConfig, given: Mapping[str, Any], held: ExitStack, ranks: Ranks
) -> TrainConfig:
    """Takes the directory, which ``held`` keeps from other processes, for a new run or for the one that is there."""
    if config.run.resume:
        config = resumed_config(directory, given, config)
        set_up_torch(config)
        if ranks.writes:
            held.enter_context(directory.locked())
            directory.sweep()
    elif ranks.writes and finished(directory, config) is None:
        held.enter_context(directory.claimed())
    return config


def finished(directory: RunDirectory, config: TrainConfig) -> dict[str, Any] | None:
    """The result of just this configuration, if the directory holds it; None where it is not readable either.

    Raises:
        InputErrors: it was trained with other vectors than its files have now.
    """
    result = directory.read_result() if directory.config.is_file() else None
    if result is None:
        return None
    stored, asked = directory.read_config(), config.to_json()
    if config.run.resume:  # the text may have moved, and was compared
        stored["data"]["data"] = asked["data"]["data"]
    same = all(stored[name] == value for name, value in asked.items())
    if config.optimization.validations_decide:
        same &= stored["run"]["validate_every"] == config.run.validate_every
    if same:
        check_files(directory, config)
    return result if same else None


def set_up_torch(config: TrainConfig) -> None:
    """Threads and device, checked before any work is done."""
    check_ranks(config.optimization.batch_size, config.run.device)
    if config.run.threads is not None:
        torch.set_num_threads(config.run.threads)
    require_device(config.run.device)
    if config.optimization.precision == "bfloat16" and not multiplies_bfloat16(config.run.device):
        logger.warning(
            "--precision bfloat16: this processor has no bfloat16 products; the recurrent core is trained in float32, "
            "and the output layer would be faster in it."
        )


def require_device(device: str) -> None:
    """Raises InputError where this torch cannot compute on a device."""
    try:
        torch.ones(1, device=device).item()  # .item(), since 'meta' makes tensors but holds no numbers
    except Exception:  # each backend that is missing has exceptions of its own
        raise InputError(
            "--device", "this torch cannot use it", found=device, expected=_devices(), fix="--device cpu"
        ) from None


def _devices() -> str:
    found = ["cpu"] + ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()
    return " or ".join(found)


def check_length(config: TrainConfig, text: Corpus) -> Windows:
    """The windows of B streams that the train split is cut into.

    Raises:
        InputError: not even one window fits, or a split has nothing to predict.
    """
    batch, needed = config.optimization.batch_size, Windows.shortest_stream(config.optimization)
    length = len(text.splits["train"]) // batch
    if length < needed:
        found, expected = f"{len(text.splits['train']):,} tokens", f"at least {batch * needed:,}"
        fix = "lower --batch-size or --bptt, or use more text"
        raise InputError(
            "--data", "the train split is too short for the batch", found=found, expected=expected, fix=fix
        )
    for split in ("valid", "test"):
        if len(text.splits[split]) < 2:
            raise InputError("--data", f"the {split} split is too short", found=len(text.splits[split]), expected=2)
    return Windows(length, config.optimization)
