"""What a run comes to: ``result.json``."""

from typing import Any

import torch

from embeddings.registry import Progress
from fixlm.corpus.corpus import Corpus
from fixlm.evaluation.perplexity import Score, by_frequency, score_of, target_nats, unigram_score
from fixlm.model.language_model import LanguageModel
from fixlm.runs.versions import versions
from fixlm.training.state import TrainingState


def final_result(model: LanguageModel, text: Corpus, at: TrainingState, tokens: int, show: Progress) -> dict[str, Any]:
    """Scores the test split; the valid split was scored when the checkpoint was taken.

    Args:
        model: as of the best checkpoint.
        at: how far the run is.
        tokens: targets that it was trained on, each as often as it was passed.
        show: is told how much of the split is scored.
    """
    valid = Score(*(at.best[name] for name in ("total_nats", "targets", "words")))
    nats = target_nats(model, text, "test", show)
    return {
        "valid": valid.to_json(),
        "test": score_of(nats, text, "test").to_json(),
        "test_by_frequency": [vars(band) for band in by_frequency(nats, text, "test")],
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
