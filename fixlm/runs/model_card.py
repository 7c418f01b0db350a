"""The card of a run that is shared: what it is, its figures, and how to load it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fixlm.runs.result_file import perplexity

if TYPE_CHECKING:
    import numpy as np

PAPER = "https://arxiv.org/abs/1801.04540"


def model_card(
    name: str,
    config: Mapping[str, Any],
    result: Mapping[str, Any] | None,
    vectors: np.ndarray | None,
    vectors_file: str,
) -> str:
    """The text of ``README.md``, with the metadata that the Hugging Face hub reads in front.

    Args:
        name: of the folder.
        config: ``config.json``.
        result: ``result.json``; None where it is not that of the weights.
        vectors: (V, D), what is written as word2vec text; None: nothing.
        vectors_file: the name of that file.
    """
    from huggingface_hub import EvalResult, ModelCardData

    model, corpus, layer = config["model"], config["corpus"], config["model"]["output_embed"].rpartition("/")[2]
    figures: list[tuple[str, float, float]] = []
    if result is not None:
        figures = [(each, perplexity(result[each]), perplexity(result["unigram"][each])) for each in ("valid", "test")]
    data = ModelCardData(
        model_name=name,
        library_name="fixlm",
        pipeline_tag="text-generation",
        tags=["language-model", model["core"], layer],
        eval_results=[
            EvalResult(
                task_type="text-generation", dataset_type=corpus["name"], dataset_name=corpus["name"],
                dataset_split=split, metric_type="perplexity", metric_name="perplexity per word", metric_value=found,
            )
            for split, found, _ in figures
        ],
    )  # fmt: skip
    rows = "\n".join(f"| {split} | {found:,.2f} | {floor:,.2f} |" for split, found, floor in figures)
    scores = (
        "The perplexity of these weights was not measured: they are not those of the best checkpoint of a finished run."
        if result is None
        else f"| split | perplexity per word | by word frequencies alone |\n|---|---:|---:|\n{rows}"
    )
    tokens = ", ".join(f"{count:,} tokens in {split}" for split, count in corpus["tokens"].items())
    settings = {
        "output layer (`--output-embed`)": f"`{layer}`",
        "recurrent core": f"{model['core']}, {model['num_layers']} layers of {model['hidden_size']} units",
        "input embedding": f"length {model['embed_size']}",
        "corpus": f"{corpus['name']}, {tokens}",
        "vocabulary": f"{corpus['vocabulary_size']:,} {corpus['unit']}s",
        "learning rate": config["optimization"]["lr"],
        "seed": config["optimization"]["seed"],
    }
    if result is not None:
        counts = result["parameters"]
        settings["training steps"] = f"{result['best_step']:,}"
        settings["trained parameters"] = f"{counts['trainable']:,}, {counts['output_trainable']:,} in the output layer"
    table = "\n".join(f"| {key} | {value} |" for key, value in settings.items())
    return f"""---
{data.to_yaml()}
---

# {name}

A recurrent language model with a `{layer}` output layer, trained with fixlm. For fixed output layers see Hoffer, Hubara
and Soudry, [Fix your classifier]({PAPER}) (ICLR 2018).

## Figures

{scores}

The text of a split is read as one stream. Every token but the first is a target once.

## Settings

| setting | value |
|---|---|
{table}

`config.json` has all settings, the versions of the libraries and the hash of the corpus.

## Use

```python
import fixlm

run = fixlm.load("FOLDER")  # the folder of this file
print(run.score("the king of the united kingdom"))
print(run.generate("the history of", tokens=20))
print(run.perplexity("test"))  # reads the corpus; name its folder by load(…, data="CORPUS") where it has moved
```

From the hub, `fixlm.HubRun.from_pretrained("OWNER/NAME")` gives the same. Text is split at white space: write it as the
training text is written.

## Word vectors

{_about_vectors(layer, vectors, vectors_file)}
"""


def _about_vectors(layer: str, vectors: np.ndarray | None, file: str) -> str:
    if vectors is None:
        return f"There is no `{file}`: it was not asked for, or `{layer}` is a layer without one matrix of words."
    rows, length = vectors.shape
    return f"""`{file}` is the matrix W of the output layer as word2vec text: {rows:,} rows of length {length}. The
logits are W f(x) + b. gensim reads the file:

```python
from gensim.models import KeyedVectors

vectors = KeyedVectors.load_word2vec_format("{file}")
```"""
