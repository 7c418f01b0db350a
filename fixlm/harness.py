"""``python -m fixlm.harness RUN``: a trained run scored by lm-evaluation-harness."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import sys
from typing import Any, Literal

from embeddings.options import Checked, Count, option
from fixlm.cli import run
from fixlm.config.command_line import Parser, add_options, read_options
from fixlm.errors import InputError

EPILOGUE = """\
examples:
  python -m fixlm.harness runs/sample-pmi-512-seed1 --data sample
  python -m fixlm.harness runs/sample-pmi-512-seed1 --tasks lambada_openai --limit 100"""


@dataclasses.dataclass(frozen=True)
class HarnessConfig(Checked):
    """What the harness scores."""

    data: str | None = option(None, "corpus of the perplexity: a name or a folder (none: as in config.json)")
    split: Literal["valid", "test", "train"] = option("test", "which split of this corpus")
    tasks: str | None = option(None, "tasks of the harness, such as lambada_openai,piqa, in place of the perplexity")
    limit: Count | None = option(None, "number of documents of each task (none: all)")
    checkpoint: str = option("best", "which checkpoint: best, last or step-N")
    json: bool = option(False, "print one JSON object and nothing else")


def command(arguments: list[str], program: str = "python -m fixlm.harness") -> None:
    """Parses, has the harness score, prints."""
    parser = Parser(prog=program, description=__doc__.partition(": ")[2], epilog=EPILOGUE)
    parser.add_argument("run", metavar="RUN", help="a run directory")
    add_options(parser, HarnessConfig)
    given = vars(parser.parse_args(arguments))
    config = read_options(given, HarnessConfig)
    if config.tasks is not None and {"data", "split"} & given.keys():
        raise InputError("--tasks", "a task has its own text", fix="drop --data and --split")
    if importlib.util.find_spec("lm_eval") is None:
        fix = "pip install 'fixlm[harness]', in an environment of its own"
        raise InputError("lm-evaluation-harness", "is not installed", fix=fix)
    found = score(given["run"], config)
    if config.json:
        print(json.dumps(found, indent=1))
        return
    for task, values in found["results"].items():
        for name, value in values.items():
            print(f"{task}  {name}  {value}")
    if "run_perplexity" in found:
        print(f"fixlm itself finds the perplexity {found['run_perplexity']}")


def score(path: str, config: HarnessConfig) -> dict[str, Any]:
    """What the harness finds: ``results`` by task, ``run_perplexity`` of fixlm itself beside it, and the versions.

    Raises:
        InputError: the run, its corpus or a task is missing.
    """
    import logging

    import lm_eval
    from lm_eval.tasks import TaskManager

    from fixlm.evaluation.harness import HarnessModel, corpus_task
    from fixlm.runs.versions import versions

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    model = HarnessModel(path, config.checkpoint)
    if config.tasks is None:
        tasks: list[Any] = [corpus_task(config.data or model.run.config["data"]["data"], config.split)]
    else:
        tasks = config.tasks.split(",")
    manager = TaskManager(include_defaults=config.tasks is not None)
    for task in tasks:
        if isinstance(task, str) and task not in manager.all_tasks:
            raise InputError("--tasks", "the harness has no such task", found=task)
    # One document has no spread, so that there is nothing to resample.
    done = lm_eval.simple_evaluate(
        model, tasks=tasks, limit=config.limit, task_manager=manager, log_samples=False, bootstrap_iters=0
    )
    assert done is not None  # it is only in other processes than the first
    own = config.tasks is None and config.data is None
    return {
        "run": model.run.name,
        **({"run_perplexity": model.run.perplexity(config.split)} if own else {}),
        "results": {
            task: {name.removesuffix(",none"): value for name, value in values.items() if isinstance(value, float)}
            for task, values in done["results"].items()
        },
        "versions": {"lm_eval": lm_eval.__version__, **versions()},
    }


if __name__ == "__main__":
    sys.exit(run(command))
