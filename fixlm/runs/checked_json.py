"""What ``config.json`` and ``result.json`` of a run must hold, whoever wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fixlm.config.schema import RUN_SETTINGS, RunConfig, TrainConfig


def checked_config(values: dict[str, Any]) -> dict[str, Any]:
    """The values of ``config.json``, with the defaults of settings that are younger than the run.

    Raises:
        InputError, InputErrors: a value is one that no flag could have had.
        ValueError, KeyError, TypeError, AttributeError: the values are no configuration of a run.
    """
    values |= TrainConfig.from_json(values).to_json()
    _require_rest(values)
    return values


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


def _require_rest(values: Mapping[str, Any]) -> None:
    """Raises InputErrors, KeyError or TypeError unless the parts beside the `TrainConfig` are there too."""
    known = values["corpus"], *([] if values["output_matrix"] is None else [values["output_matrix"]])
    for part in known:
        if not isinstance(part["sha256"], str):
            raise TypeError("sha256 is no string")
    if not isinstance(values["corpus"]["vocabulary_size"], int):
        raise TypeError("vocabulary_size is no whole number")
    RunConfig(**{name: values["run"][name] for name in RUN_SETTINGS})
