"""What is wrong with a configuration that no single value shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import embeddings
from embeddings.errors import InputError, unknown_name
from fixlm.model.core import CORES
from fixlm.output import registry

if TYPE_CHECKING:
    from fixlm.config.train_config import TrainConfig


def unknown_names(config: TrainConfig) -> Iterator[InputError]:
    """The embeddings that are neither a known name nor what can be a path."""
    if config.model.core not in CORES:
        yield unknown_name("core", "recurrent core", config.model.core, CORES)
    vectors = embeddings.vector_names()
    start = getattr(config.output, "output_start", "random")
    for name, embed, known in (
        ("output_embed", config.model.output_embed, registry.names()),
        ("input_embed", config.model.input_embed, ["learned", "same", "fixed", *vectors]),
        ("input_start", config.model.input_start, ["random", *vectors]),
        ("output_start", start, ["random", *vectors]),
    ):
        if embed not in known and not registry.can_be_path(embed):
            kind = name.replace("_embed", " embedding").replace("_", " ")
            yield unknown_name(name, kind, embed, known)


def contradictions(config: TrainConfig) -> Iterator[InputError]:
    """What no single value shows, with the fix of each."""
    model, layer = config.model, config.layer
    if type(config.output) is not layer.options:
        found, expected = type(config.output).__name__, layer.options.__name__
        yield InputError("output", "not the options of this layer", found=found, expected=expected)
        return
    frozen = f"--input-embed {model.input_embed}"
    if layer.trains_input and model.input_embed not in ("learned", "same", "fixed"):
        what = f"{model.output_embed} trains the input embedding"
        yield InputError("input_embed", what, found=model.input_embed, expected="learned")
    elif layer.input_matrix is None and model.input_embed in ("same", "fixed"):
        found = f"--output-embed {model.output_embed}"
        yield InputError("input_embed", f"'{model.input_embed}' needs an output matrix", found=found)
    if model.input_start != "random" and model.input_embed != "learned":
        what = "only a learned input embedding has a start"
        yield InputError("input_start", what, found=frozen, fix="remove the flag, or add --input-embed learned")
    if model.input_start_scale != 1 and model.input_embed not in ("learned", "same"):
        what = "a frozen input embedding stays as it is"
        yield InputError("input_start_scale", what, found=frozen, fix="remove the flag")
    sizes = {"hidden_size": model.feature_size, "embed_size": model.embed_size}
    yield from config.output.problems(sizes, config.prepared_with())
