"""lm-evaluation-harness (``lm_eval``): a run as one of its models, and a corpus as one of its tasks.

The harness has a task ``wikitext``, but its text is raw and falls into documents. `corpus_task` is the text that runs
are trained on, in their tokens and as one stream, so that the perplexities of the harness and of `Run.perplexity` are
the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from datasets import Dataset
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

from fixlm.console import progress
from fixlm.corpus import registry
from fixlm.corpus.data_set import EOS, SPLITS
from fixlm.corpus.encoding import encode_text
from fixlm.errors import unknown_name
from fixlm.evaluation.perplexity import hidden_windows
from fixlm.evaluation.run import load

if TYPE_CHECKING:
    import os

LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens")
"""What tasks call the number of tokens to generate."""


@register_model("fixlm")
class HarnessModel(LM):
    r"""A run as a model of the harness: ``model="fixlm", model_args={"run": "runs/first"}``.

    Text is split at white space, and ``\n`` is ``<eos>``: a task has to be written as the training text is. Words that
    the vocabulary lacks are scored as ``<unk>``. A text of any length is read as one stream. An empty context is
    ``<eos>``, the beginning of a paragraph.

    Args:
        run: a run directory, or a folder that `Run.export` wrote.
        checkpoint: ``best``, ``last`` or ``step-N``.
        ignored: what the harness tells every model, such as ``batch_size``. One text is read at a time.

    Raises:
        InputError: the run or its checkpoint is missing or damaged.
    """

    def __init__(self, run: str | os.PathLike[str], checkpoint: str = "best", **ignored: Any) -> None:
        super().__init__()
        self.run = load(run, checkpoint)

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """log p(continuation | context) in nats for each (context, continuation), and whether it is the greedy one."""
        return [
            self._log_probability(self._ids(context), self._ids(text))
            for context, text in _told(requests, "loglikelihood")
        ]

    def loglikelihood_rolling(self, requests: Sequence[Instance]) -> list[float]:
        """log p(text | ``<eos>``) in nats for each (text,)."""
        texts = _told(requests, "loglikelihood_rolling")
        return [self._log_probability(self._ids(""), self._ids(text), greedy=False)[0] for (text,) in texts]

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """Text for each (context, settings), up to the first of the strings ``settings["until"]``.

        Of the settings, ``max_gen_toks`` (256), ``do_sample`` (False), ``temperature``, ``top_k`` and ``top_p`` count.
        """
        return [self._generate(context, settings) for context, settings in _told(requests, "generate_until")]

    def _ids(self, text: str) -> np.ndarray:
        """(n,) ids of any text, also of a blank one."""
        if text.strip():
            return encode_text(text, self.run.vocabulary, self.run.tokenizer).ids
        return np.full(text.count("\n"), self._end_of_line)

    @property
    def _end_of_line(self) -> int:
        return self.run.vocabulary.index(EOS if self.run.tokenizer is None else self.run.tokenizer.end)

    @torch.inference_mode()
    def _log_probability(self, context: np.ndarray, text: np.ndarray, *, greedy: bool = True) -> tuple[float, bool]:
        """The log probability of ids after others; ``greedy``: whether each may be the most probable one."""
        if not len(context):
            context = np.array([self._end_of_line])
        total, of_context = 0.0, len(context) - 1  # targets that are still of the context
        model = self.run.model
        for hidden, targets, nats in hidden_windows(model, np.concatenate([context, text])):
            total -= nats[of_context:].double().sum().item()
            # The logits of a long text are many: they are looked at until a word is not the most probable one.
            if greedy and of_context < len(targets):
                _, best = model.output.top_k(hidden[of_context:], 1)  # (n, 1)
                greedy = bool((best[:, 0] == targets[of_context:]).all())
            of_context = max(0, of_context - len(targets))
        return total, greedy

    def _generate(self, context: str, settings: Mapping[str, Any]) -> str:
        until = settings.get("until") or []
        ends = [each for each in ([until] if isinstance(until, str) else until) if each]
        tokens = next((int(settings[name]) for name in LENGTHS if settings.get(name)), 256)
        given = settings.get("temperature")
        temperature = (1.0 if given is None else float(given)) if settings.get("do_sample") else 0.0
        cut: dict[str, Any] = {
            name: kind(settings[name]) for name, kind in (("top_k", int), ("top_p", float)) if settings.get(name)
        }
        text = ""
        for part in self.run.stream(context, tokens, temperature=temperature, **cut):
            text += part
            if found := [text.index(end) for end in ends if end in text]:
                return text[: min(found)]
        return text


def corpus_task(data: str, split: str = "test") -> dict[str, Any]:
    """A split of a corpus in the tokens that runs read, as one text: a task, as `lm_eval.simple_evaluate` takes it.

    The first word or ``<eos>`` is context only. (For a run on pieces, `Run.perplexity` counts all but its first piece.)
    The task gives ``word_perplexity``, where every ``<eos>`` is a word too, ``byte_perplexity`` and ``bits_per_byte``.
    Only a model that reads a text of any length scores all of it.

    Args:
        data: ``wikitext-2``, ``sample`` or a folder, as ``--data`` of ``fixlm.train``.
        split: ``valid``, ``test`` or ``train``.

    Raises:
        InputError: there is no such corpus or split.
    """
    if split not in SPLITS:
        raise unknown_name("split", "split", split, SPLITS)
    data_set = registry.find(data)
    parts = [(words, ends) for words, ends in data_set.lines(split) if words or ends]
    text = "".join(" ".join(words) + ("\n" if ends else " ") for words, ends in parts)
    if not text.strip():
        raise data_set.no_words(split)
    first = "\n" if text.startswith("\n") else text.split(maxsplit=1)[0]
    document = {"first": first, "rest": text[len(first) :]}
    aggregations = {
        "word_perplexity": "weighted_perplexity",
        "byte_perplexity": "weighted_perplexity",
        "bits_per_byte": "bits_per_byte",
    }
    return {
        "task": f"{data_set.name}-words-{split}",
        "custom_dataset": lambda **ignored: {"test": Dataset.from_list([document])},
        "test_split": "test",
        "output_type": "loglikelihood",
        "doc_to_text": lambda doc: doc["first"],
        "doc_to_target": lambda doc: doc["rest"],
        "process_results": measures,
        "metric_list": [
            {"metric": name, "aggregation": how, "higher_is_better": False} for name, how in aggregations.items()
        ],
        "metadata": {"version": 1},
    }


def measures(document: Mapping[str, str], results: Sequence[tuple[float, bool]]) -> dict[str, tuple[float, int]]:
    """What the measures of `corpus_task` are computed from: nats, and how many words or bytes they are of."""
    ((log_probability, _),) = results
    rest = document["rest"]
    words, size = len(rest.split()) + rest.count("\n"), len(rest.encode())
    return {
        "word_perplexity": (log_probability, words),
        "byte_perplexity": (log_probability, size),
        "bits_per_byte": (log_probability, size),
    }


def _told(requests: Sequence[Instance], what: str) -> Iterator[tuple[Any, ...]]:
    """The arguments of each request; says how far it is."""
    with progress() as show:
        for done, request in enumerate(requests):
            show(what, done, len(requests))
            yield request.args
