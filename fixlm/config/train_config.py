"""The whole of a training run's configuration: the groups of `fixlm.config.schema`, and what goes with the layer."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import embeddings
from embeddings.errors import InputError, InputErrors
from embeddings.files import hash_file
from embeddings.options import check
from fixlm.config.command_line import flag_name
from fixlm.config.contradictions import contradictions, unknown_names
from fixlm.config.schema import DataConfig, ModelConfig, OptimizationConfig, RunConfig
from fixlm.output import registry
from fixlm.output.options import LayerOptions


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Args:
        model: a number of folds that is None becomes that of the output layer's matrix.
        optimization: a learning rate that is None becomes that of the output layer.
        output: the options of the output layer, of the class that its entry in `fixlm.output.registry` names.
        matrices: the options of the methods of `embeddings` that the run uses, by method; the defaults of a method
            that is missing here.
        folds_by_default: nobody gave the number of folds; the text may then turn out to be too small for it.

    Raises:
        InputErrors: two of the values contradict each other.
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)
    run: RunConfig = field(default_factory=RunConfig)
    output: LayerOptions = None  # type: ignore[assignment] # the layer's defaults, which depend on the layer
    matrices: Mapping[str, Any] = field(default_factory=dict)
    folds_by_default: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        InputErrors.raise_if_any([*unknown_names(self)])
        if self.output is None:
            object.__setattr__(self, "output", self.layer.options())
        if self.optimization.lr is None:
            object.__setattr__(self, "optimization", dataclasses.replace(self.optimization, lr=self.layer.lr))
        if self.model.cross_fit is None:
            own = self.layer.method if self.layer.reads_folds else None
            folds = 0 if own is None else embeddings.default_folds(own)
            object.__setattr__(self, "model", dataclasses.replace(self.model, cross_fit=folds))
            object.__setattr__(self, "folds_by_default", True)
        for options in self.matrices.values():
            check(options)
        InputErrors.raise_if_any([*contradictions(self)])

    @property
    def layer(self) -> registry.LayerEntry:
        """The entry of the output layer."""
        return registry.entry(self.model.output_embed)

    def matrix_options(self, method: str) -> Any:
        """The options of a method, its defaults where none were given."""
        return self.matrices.get(method) or embeddings.get(method).Options()

    def prepared_with(self) -> Any:
        """The options of what is prepared from the text for the output layer; None where that is nothing."""
        return None if self.layer.method is None else self.matrix_options(self.layer.method)

    def dropout(self, where: str) -> float:
        """The rate at ``input``, ``between`` or ``output``."""
        rate = getattr(self.model, f"dropout_{where}")
        return self.model.dropout if rate is None else rate

    def methods(self) -> list[str]:
        """The methods of `embeddings` that this run needs, each once."""
        start = getattr(self.output, "output_start", "random")
        named = [name for name in (self.input_matrix(), start) if name not in (None, "same", "random")]
        own = [] if self.layer.method is None else [self.layer.method]
        return sorted({*own, *(registry.method_of(str(name)) for name in named)})

    def input_matrix(self) -> str | None:
        """What the input embedding is or starts at: a method, a path, ``same`` (the output matrix), or None."""
        model = self.model
        if model.input_embed == "learned":
            return None if model.input_start == "random" else model.input_start
        return self.layer.input_matrix if model.input_embed in ("same", "fixed") else model.input_embed

    @property
    def reads_output_matrix(self) -> bool:
        """Whether the frozen input embedding is the output matrix, if both have rows of one length."""
        return self.model.input_embed in ("fixed", self.model.output_embed)

    @property
    def folds(self) -> int:
        """K of cross-fitting, 0 for none."""
        assert self.model.cross_fit is not None
        return self.model.cross_fit

    def cross_fitted(self) -> dict[str, tuple[str, int]]:
        """What is cross-fitted: by ``output`` or ``input``, which reads it, the method and the length of a row."""
        found: dict[str, tuple[str, int]] = {}
        if self.folds == 0:
            return found
        own = self.layer.method or "", getattr(self.output, "output_dim", None) or self.model.feature_size
        if self.layer.reads_folds:
            found["output"] = own
        if embed := self.input_matrix():
            found["input"] = own if embed == "same" else (registry.method_of(embed), self.model.embed_size)
        return {end: each for end, each in found.items() if embeddings.can_cross_fit(each[0])}

    def hashes_of_files(self) -> dict[str, str]:
        """SHA-256 of each file of vectors that is named and is there, by flag: a path says little."""
        starts = {"output_start": getattr(self.output, "output_start", "random")}
        found = {}
        for name in ("output_embed", "input_embed", "input_start", "output_start"):
            path = os.path.expanduser(starts.get(name) or getattr(self.model, name))
            if registry.looks_like_path(path) and os.path.isfile(path):
                found[flag_name(name)] = hash_file(Path(path))
        return found

    def to_json(self) -> dict[str, Any]:
        """Nested plain values: what `from_json` reads, without the `RunConfig`."""
        model = dataclasses.asdict(self.model) | dataclasses.asdict(self.output)
        matrices = {method: dataclasses.asdict(self.matrix_options(method)) for method in self.methods()}
        return {
            "data": dataclasses.asdict(self.data),
            "model": model,
            "optimization": dataclasses.asdict(self.optimization),
            "matrices": matrices,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any], run: RunConfig | None = None) -> Self:
        """The configuration that `to_json` gave, also in an older version.

        Raises:
            InputErrors: with each value that is wrong.
            KeyError, TypeError, AttributeError: it is nothing like a configuration.
        """
        model = dict(values["model"])
        options = registry.entry(model["output_embed"]).options
        own = {item.name for item in dataclasses.fields(options)}
        of_others = {item.name for other in registry.all_options() for item in dataclasses.fields(other)}
        parts: dict[str, Any] = {}
        matrices: dict[str, Any] = {}
        errors: list[InputError] = []
        for place, name, kind, given in (
            (parts, "data", DataConfig, values["data"]),
            # A run of an older version also wrote down the options that other layers have.
            (parts, "model", ModelConfig, {key: model[key] for key in model if key not in of_others}),
            (parts, "output", options, {key: model[key] for key in model if key in own}),
            (parts, "optimization", OptimizationConfig, values["optimization"]),
            *((matrices, name, embeddings.get(name).Options, given) for name, given in values["matrices"].items()),
        ):
            try:
                place[name] = kind(**{**values_before(kind), **given})
            except InputError as error:
                prefix = f"{name}_" if place is matrices else ""
                errors += error.inside(prefix).errors
        InputErrors.raise_if_any(errors)
        return cls(**parts, run=run or RunConfig(), matrices=matrices)


def values_before(options: type[Any]) -> dict[str, Any]:
    """What runs did before there was a field for it, where the field says so."""
    metadata = {item.name: item.metadata for item in dataclasses.fields(options)}
    return {name: each["before"] for name, each in metadata.items() if "before" in each}
