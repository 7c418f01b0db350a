"""A stand-in for WikiText-103 as the cache of `datasets` holds it: the same number of words, drawn at random."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

SPLITS = {"train": 1.0, "validation": 0.002, "test": 0.002}
"""Tokens of each split, as a part of the train split's."""
ROW = 114
"""Words of a row. Every other row is blank, so that a line has 57 tokens on average, as in WikiText-103."""
BATCH = 8192


def write(cache: Path, tokens: int, words: int, seed: int) -> None:
    """Writes the three splits as Arrow files that `datasets.load_dataset` finds without a network.

    The words follow Zipf's law, and each of them occurs.

    Args:
        cache: the folder that ``HF_DATASETS_CACHE`` will name.
        tokens: of the train split, about, with one ``<eos>`` a line.
        words: V less ``<eos>``.
        seed: of the draws.
    """
    import pyarrow as pa

    folder = cache / "Salesforce___wikitext" / "wikitext-103-v1" / "0.0.0" / "stand-in"
    folder.mkdir(parents=True)
    draw = np.random.default_rng(seed)
    schema = pa.schema({"text": pa.string()})
    sizes = {}
    for split, share in SPLITS.items():
        sizes[split] = 0
        first = draw.permutation(words) if split == "train" else np.empty(0, dtype=np.int64)
        with pa.ipc.new_stream(folder / f"wikitext-{split}.arrow", schema) as file:
            for batch in _batches(_rows(first, int(tokens * share), words, draw)):
                file.write(pa.record_batch([pa.array(batch)], schema=schema))
                sizes[split] += len(batch)
    info = {
        "builder_name": "wikitext",
        "config_name": "wikitext-103-v1",
        "dataset_name": "wikitext",
        "features": {"text": {"dtype": "string", "_type": "Value"}},
        "splits": {split: {"name": split, "num_examples": size} for split, size in sizes.items()},
        "version": "0.0.0",
    }
    (folder / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")


def _rows(first: np.ndarray, tokens: int, words: int, draw: np.random.Generator) -> Iterator[str]:
    """Rows of ``first`` and of random words after them, and blank rows between."""
    names = np.array([f"word{number}" for number in range(words)], dtype=object)
    cumulated = np.cumsum(1 / np.arange(1, words + 1))
    left = tokens * ROW // (ROW + 2)  # words; the rest are ends of lines
    while left > 0:
        ids = np.append(
            first, np.searchsorted(cumulated, draw.random(min(left - len(first), ROW * BATCH)) * cumulated[-1])
        )
        first, left = first[:0], left - len(ids)
        for start in range(0, len(ids), ROW):
            yield f" {' '.join(names[ids[start : start + ROW]])} \n"
            yield ""


def _batches(rows: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    yield batch
