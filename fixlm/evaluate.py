"""``python -m fixlm.evaluate RUN``: perplexity of a trained run, exact: one stream, every target once."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Le

from embeddings.options import Checked, Natural, Rate, option
from fixlm.cli import run
from fixlm.config.command_line import Parser, add_options, read_options
from fixlm.errors import InputError, InputErrors

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from fixlm.evaluation.continuous_cache import CacheSettings
    from fixlm.evaluation.ngrams import NgramMixture
    from fixlm.evaluation.perplexity import Score


@dataclasses.dataclass(frozen=True)
class EvaluateConfig(Checked):
    """What to score."""

    split: Literal["valid", "test", "train"] = option("test", "which split is scored")
    checkpoint: str = option("best", "which checkpoint: best, last or step-N")
    data: str | None = option(None, "folder or name of the corpus, if it has moved (none: as in config.json)")
    threads: Annotated[int, Ge(1), Le(1024)] | None = option(None, "number of torch's threads (none: chosen by torch)")
    cache_size: Natural = option(0, "n, the number of past tokens that a continuous cache holds (0: no cache)")
    cache_theta: Annotated[float, Ge(0), Le(1000)] = option(
        0.66, "θ, how sharply the cache prefers similar states. At 0 it only counts words"
    )
    cache_lambda: Rate = option(0.13, "λ, the weight of the cache in the mixture")
    cache_tune: bool = option(False, "choose θ and λ of the cache on the valid split")
    ngram_order: Natural = option(0, "n of an n-gram model, counted on the train split, to mix in (0: none)")
    ngram_lambda: Rate = option(0.15, "λ, the weight of the n-gram model in the mixture")
    ngram_tune: bool = option(False, "choose λ of the n-gram model on the valid split")
    json: bool = option(False, "print one JSON object and nothing else")


def command(arguments: list[str], program: str = "python -m fixlm.evaluate") -> None:
    """Parses, scores, prints."""
    parser = Parser(prog=program, description=__doc__.partition(": ")[2])
    parser.add_argument("run", metavar="RUN", help="a run directory")
    add_options(parser, EvaluateConfig)
    given = vars(parser.parse_args(arguments))
    config = read_options(given, EvaluateConfig)
    InputErrors.raise_if_any([*_contradictions(config, given)])
    score, cache, ngrams = evaluate_run(given["run"], config)
    if config.json:
        mixed = {"ngrams": ngrams and ngrams.to_json(), "cache": cache and cache.to_json()}
        used = {name: part for name, part in mixed.items() if part}
        print(json.dumps({"split": config.split, **score.to_json(), **used}))
        return
    unit = "word" if score.words is None else "piece"
    parts = [
        f"{part}{', chosen on valid' if tuned else ''}, "
        for part, tuned in (
            (ngrams and ngrams.describe(), config.ngram_tune),
            (cache and cache.describe(unit), config.cache_tune),
        )
        if part
    ]
    counts = f"{score.nll:.4f} nats, {score.targets:,} targets"
    print(f"{given['run']}: {config.split} perplexity {score}{' ' if parts else ', '}{''.join(parts)}{counts}")


def _contradictions(config: EvaluateConfig, given: Collection[str]) -> Iterator[InputError]:
    """What no single flag shows."""
    kinds = (("cache", "cache-size", 2000, "there is no cache"), ("ngram", "ngram-order", 4, "there are no n-grams"))
    for kind, size, usual, what in kinds:
        there, tuned = getattr(config, size.replace("-", "_")), getattr(config, f"{kind}_tune")
        for flag in given:
            if not flag.startswith(f"{kind}-") or flag == size:
                continue
            if not there:
                yield InputError(f"--{flag}", what, found=f"--{size} 0", fix=f"add --{size} {usual}")
            elif tuned and flag != f"{kind}-tune":
                yield InputError(f"--{flag}", f"--{kind}-tune chooses it", fix="drop one of the two")
    if config.ngram_order and config.split == "train":
        what = "n-grams are counted on the train split, and know what comes next in it"
        yield InputError("--ngram-order", what, fix="--split valid or --split test")


def evaluate_run(path: str, config: EvaluateConfig) -> tuple[Score, CacheSettings | None, NgramMixture | None]:
    """Scores a split of the corpus that a run was trained on, with what the flags ask to mix in.

    Raises:
        InputError: the run, its checkpoint or its corpus is missing or not what it was.
    """
    import torch

    from fixlm.console import progress
    from fixlm.evaluation import cache_tuning
    from fixlm.evaluation import ngrams as n_grams
    from fixlm.evaluation.continuous_cache import CacheSettings
    from fixlm.evaluation.perplexity import evaluate, target_nats
    from fixlm.evaluation.run import load

    if config.threads is not None:
        torch.set_num_threads(config.threads)
    opened = load(path, config.checkpoint, config.data)
    text, cache, ngrams = opened.corpus, None, None
    with progress() as show:
        if config.ngram_order:
            counted = n_grams.count(text, config.ngram_order)
            ngrams = n_grams.NgramMixture(counted, config.ngram_lambda)
            if config.ngram_tune:
                ngrams = n_grams.choose(counted, target_nats(opened.model, text, "valid", show), text)
        if config.cache_size and config.cache_tune:
            cache = cache_tuning.choose(opened.model, text, config.cache_size, show, ngrams)
        elif config.cache_size:
            cache = CacheSettings(config.cache_size, config.cache_theta, config.cache_lambda)
        return evaluate(opened.model, text, config.split, show, cache, ngrams), cache, ngrams


if __name__ == "__main__":
    sys.exit(run(command))
