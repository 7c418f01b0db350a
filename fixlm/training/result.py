"""What a run comes to: ``result.json``."""

import logging
from typing import Any

import numpy as np
import torch

from embeddings.registry import Progress
from fixlm.corpus.corpus import Corpus
from fixlm.evaluation import ngrams
from fixlm.evaluation.perplexity import Score, by_frequency, score_of, target_nats, unigram_score
from fixlm.model.language_model import LanguageModel
from fixlm.runs.versions import versions
from fixlm.training.state import TrainingState

logger = logging.getLogger(__name__)


def final_result(
    model: LanguageModel, text: Corpus, at: TrainingState, tokens: int, ngram_order: int, show: Progress
) -> dict[str, Any]:
    """Scores the test split; the valid split was scored when the checkpoint was taken.

    Args:
        model: as of the best checkpoint.
        at: how far the run is.
        tokens: targets that it was trained on, each as often as it was passed.
        ngram_order: n of an n-gram model for a second score, mixed with it; 0 for none.
        show: is told how much of the split is scored.
    """
    valid = Score(*(at.best[name] for name in ("total_nats", "targets", "words")))
    nats = target_nats(model, text, "test", show)
    mixed = {"with_ngrams": _mixed_with_ngrams(model, text, nats, ngram_order, show)} if ngram_order else {}
    return {
        "valid": valid.to_json(),
        "test": score_of(nats, text, "test").to_json(),
        "test_by_frequency": [vars(band) for band in by_frequency(nats, text, "test")],
        **mixed,
        "unigram": {split: unigram_score(text, split).to_json() for split in ("valid", "test")},
        "parameters": model.parameter_counts(),
        "steps": at.step,
        "best_step": at.best["step"],
        "seconds": round(at.seconds, 3),
        "validation_seconds": round(at.validation_seconds, 3),
        "tokens_per_second": round(tokens / at.seconds, 1),
        "corpus": text.description(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


def _mixed_with_ngrams(
    model: LanguageModel, text: Corpus, test_nats: np.ndarray, order: int, show: Progress
) -> dict[str, Any]:
    """The scores of both splits where an n-gram model is mixed in, whose weight is chosen on the valid split."""
    nats = {"valid": target_nats(model, text, "valid", show), "test": test_nats}
    mixture = ngrams.choose(ngrams.count(text, order), nats["valid"], text)
    scores = {split: score_of(mixture.mix(each, text.splits[split]), text, split) for split, each in nats.items()}
    shown = ", ".join(f"{split} perplexity {score}" for split, score in scores.items())
    logger.info(f"scored {mixture.describe()}, chosen on valid: {shown}")
    return mixture.to_json() | {split: score.to_json() for split, score in scores.items()}
