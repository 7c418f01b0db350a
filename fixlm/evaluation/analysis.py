"""A finished run opened up: what `scripts/evaluate_perplexity.ipynb` shows of it."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from embeddings.diagnostics import nearest
from embeddings.errors import did_you_mean
from embeddings.output_matrix import unit_rows
from fixlm.errors import InputError

if TYPE_CHECKING:
    from fixlm.evaluation.run import Run

PAPER, RED = (255, 255, 255), (227, 74, 51)
"""The colours of a word that was certain, and of one that was as likely as any other of the V."""


def along_the_text(nats: np.ndarray, window: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """How hard each stretch of a text was: exp of the mean nats of every ``window`` targets in a row.

    Args:
        nats: (n,) of each target, from `fixlm.evaluation.perplexity.target_nats`.
        window: targets in a stretch; all n if there are fewer.

    Returns:
        (m,) the middle of each stretch, in targets, and (m,) its perplexity. Stretches follow each other a tenth of
        the window apart.
    """
    window = min(window, len(nats))
    sums = np.concatenate([[0.0], np.cumsum(nats, dtype=np.float64)])
    starts = np.arange(0, len(nats) - window + 1, max(1, window // 10))
    with np.errstate(over="ignore"):  # infinity is the right answer for a model that bad
        return starts + window / 2, np.exp((sums[starts + window] - sums[starts]) / window)


def passage_html(run: Run, split: str, nats: np.ndarray, start: int = 0, length: int = 200) -> str:
    """A passage with each word on a ground as red as it was surprising: log V nats or more is full red.

    Args:
        nats: (n,) of each target of the split, from `fixlm.evaluation.perplexity.target_nats`.
        start: the first target shown; target i is token i + 1 of the split.
        length: how many are shown.

    Returns:
        HTML, with what the text itself has of markup escaped; pointing at a word shows its surprisal.

    Raises:
        InputError: there is no target ``start``, or the nats are not those of the split.
    """
    targets = run.corpus.splits[split][1:]
    if len(nats) != len(targets):
        raise InputError("nats", f"not of the {split} split", found=len(nats), expected=len(targets))
    if not 0 <= start < len(nats):
        raise InputError("start", "no such target", found=start, expected=f"0 to {len(nats) - 1}")
    pieces = run.corpus.unit == "piece"
    shown = []
    for token, surprisal in zip(
        targets[start : start + length].tolist(), nats[start : start + length].tolist(), strict=True
    ):
        word, ends = run.corpus.words[token], token == run.corpus.end_of_line
        strength = min(max(surprisal / math.log(max(len(run.corpus), 2)), 0.0), 1.0)
        colour = ",".join(f"{low + (high - low) * strength:.0f}" for low, high in zip(PAPER, RED, strict=True))
        title = (
            f"{word}: {surprisal:.2f} nats, probability {math.exp(-surprisal):.2g}, "
            f"{run.corpus.counts[token]:,} times in train"
        )
        text = "¶" if ends else word.replace("▁", " ") if pieces else word
        space = "<br>" if ends else "" if pieces else " "
        shown.append(
            f'<span style="background:rgb({colour});color:black;white-space:pre-wrap" '
            f'title="{html.escape(title)}">{html.escape(text)}</span>{space}'
        )
    return f'<p style="line-height:1.8">{"".join(shown)}</p>'


@torch.no_grad()
def output_matrix(run: Run) -> np.ndarray:
    """W of logits = W f(x) + b, a row a word: (V, D) float32, D = N, or H where the features are x itself.

    The fixed Q, the learned weight, the tied input embedding; of ``walsh``, whose codes are never stored, what its
    learned map makes of them: g C A (V, H).
    """
    return run.model.output.word_matrix().float().cpu().numpy()


def word_id(run: Run, word: str) -> int:
    """The id of a word; of a vocabulary of pieces, also of the piece that begins a word.

    Raises:
        InputError: the vocabulary lacks it; names the nearest word that is there.
    """
    words = run.vocabulary
    for spelling in (word, f"▁{word}"):
        if spelling in words:
            return words.index(spelling)
    fix = did_you_mean(word, words).strip() or "take a word of vocabulary.txt"
    raise InputError("word", "not in the vocabulary of the run", found=repr(word), fix=fix)


def nearest_words(run: Run, matrix: np.ndarray, word: str, count: int = 8) -> list[tuple[str, float]]:
    """The words whose rows of a matrix (V, D) have the largest cosine with the row of ``word``, and these cosines.

    Raises:
        InputError: the vocabulary lacks the word.
    """
    return [(run.vocabulary[i], cosine) for i, cosine in nearest(matrix, word_id(run, word), count)]


def family_of(run: Run, word: str) -> list[str]:
    """The words that share the first half of their code with ``word``, the head of the family first.

    Raises:
        InputError: the run's layer is not ``walsh``, or the vocabulary lacks the word.
    """
    return [run.vocabulary[i] for i in run.model.output.relatives(word_id(run, word))]


def plane(vectors: np.ndarray) -> tuple[np.ndarray, float]:
    """The two directions in which vectors differ most: principal components of their directions x/‖x‖.

    Args:
        vectors: (k, D).

    Returns:
        (k, 2) coordinates, with the largest of each axis positive, and the share of the variance that they show, which
        says something beside that of random vectors of the same shape only.
    """
    from scipy.linalg import svd

    unit = unit_rows(vectors).astype(np.float64)
    left, singular, _ = svd(unit - unit.mean(0), full_matrices=False)
    found = np.zeros((len(vectors), 2))
    kept = min(2, len(singular))
    found[:, :kept] = left[:, :kept] * singular[:kept]
    largest = found[np.abs(found).argmax(0), [0, 1]]
    total = float((singular**2).sum())
    share = float((singular[:2] ** 2).sum()) / total if total > 0 else 0.0
    return found * np.where(largest < 0, -1, 1), share


def learning_curve(run: Run) -> list[dict[str, Any]]:
    """The records of ``metrics.jsonl``, flat: ``validation`` is the perplexity (per word where that is known)."""
    records = []
    for record in run.directory.read_metrics():
        if isinstance(scores := record.get("validation"), dict):
            record = {**record, "validation": _perplexity(scores)}
        records.append(record)
    return records


def side_by_side(*runs: Run) -> dict[str, dict[str, Any]]:
    """What the runs are, what is trained in them and what they reach: a column of rows for each.

    Perplexities are those of ``result.json``, per word; None where a run lacks one. Columns are named by the run
    directory, or by its whole path where two have the same name.
    """
    names = [run.name for run in runs]
    return {
        name if names.count(name) == 1 else str(run.directory.path): _column(run)
        for name, run in zip(names, runs, strict=True)
    }


def _column(run: Run) -> dict[str, Any]:
    model = run.config["model"]
    counts = run.model.parameter_counts()
    result = run.directory.read_result() or {}
    unigram = result.get("unigram", {})
    return {
        "text": run.corpus.name,
        "vocabulary V": f"{len(run.corpus):,} {run.corpus.unit}s",
        "output layer": model["output_embed"],
        "input embedding": model["input_embed"],
        "hidden size H": model["hidden_size"],
        "numbers trained": f"{counts['trainable']:,}",
        "… in the output layer": f"{counts['output_trainable']:,}",
        "numbers fixed": f"{counts['fixed']:,}",
        "steps": result.get("steps"),
        "valid perplexity": _perplexity(result.get("valid", {})),
        "test perplexity": _perplexity(result.get("test", {})),
        "… of word frequencies alone": _perplexity(unigram.get("test", {})),
    }


def _perplexity(scores: Mapping[str, Any]) -> float | None:
    return scores.get("perplexity_per_word", scores.get("perplexity"))
