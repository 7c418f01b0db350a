"""The values of ``result.json``."""

from collections.abc import Mapping
from typing import Any


def checked_result(result: dict[str, Any]) -> dict[str, Any]:
    """The values of ``result.json``.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: a number that every result has is missing.
    """
    for split in ("valid", "test"):
        {key: result["unigram"][split][key] for key in result[split] if key.startswith("perplexity")}
    float(result["seconds"]), float(result["tokens_per_second"])
    int(result["parameters"]["output_trainable"]), int(result["parameters"]["trainable"])
    str(result["corpus"]["unit"])
    return result


def perplexity(score: Mapping[str, Any]) -> float:
    """Per word of the original text, of a score in ``result.json``; infinity for one that overflowed."""
    value = score.get("perplexity_per_word", score["perplexity"])
    return float("inf") if value is None else value
