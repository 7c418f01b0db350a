"""The folds that a run trains on: see `embeddings.cross_fit`."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from embeddings.cross_fit import FoldVectors, fold_of_tokens
from fixlm.config.train_config import TrainConfig
from fixlm.model.folds import WindowFolds
from fixlm.output.layer import OutputLayer
from fixlm.training.ranks import Ranks
from fixlm.training.windows import Window, in_streams

logger = logging.getLogger(__name__)

SPARED_ROWS = 1024
"""Words at a time whose rows are brought to float32: the processor's cache holds them."""


class TrainingFolds:
    """The fold of each token of the streams, and the vectors counted without it.

    Args:
        vectors: by ``input`` and ``output``, the end of the model that reads them.
        config: of the run.
        tokens: of the train split.
        layer: the output layer.
        ranks: of which this one reads its part of the streams.
    """

    def __init__(
        self, vectors: Mapping[str, FoldVectors], config: TrainConfig, tokens: int, layer: OutputLayer, ranks: Ranks
    ) -> None:
        device = torch.device(config.run.device)
        # Once for both ends, where they read the same.
        held = {id(each): torch.from_numpy(each.rows).view(torch.bfloat16).to(device) for each in vectors.values()}
        self.rows: dict[str, Any] = {end: held[id(each)] for end, each in vectors.items()}
        if "output" in self.rows:
            self.rows["output"] = layer.fold_rows(self.rows["output"])
        folds = config.folds
        streams = in_streams(fold_of_tokens(tokens, folds), config.optimization.batch_size)
        self.of_streams = ranks.part(streams).to(device)
        self.scale = config.model.input_start_scale
        parts = {
            id(part): part for rows in self.rows.values() for part in (rows if isinstance(rows, tuple) else [rows])
        }
        size = sum(part.numel() * part.element_size() for part in parts.values())
        ends = " and ".join(sorted(self.rows))
        logger.info(f"cross-fitting: {folds} folds, read at the {ends}; their vectors take {size / 1e6:,.0f} MB.")

    @torch.no_grad()
    def spare_start(self, weight: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Gives back what weight decay has just taken of s·Q, so that it acts on D alone in W = s·Q + D.

        A step multiplies W by 1 − λ. D would take up −λ·s·Q with each, and so a part of the vectors of the whole text,
        which training on a fold must not read.

        Args:
            weight: (V, E) W of the input embedding.
            optimizer: after its step; λ is learning rate times weight decay of the group that W is in.
        """
        rows = self.rows.get("input")
        if rows is not None and weight.requires_grad:
            group = next(each for each in optimizer.param_groups if any(part is weight for part in each["params"]))
            factor = group["lr"] * group["weight_decay"] * self.scale
            if not factor:
                return
            # In parts: to add numbers of two types, torch takes ten times as long.
            for own, whole in zip(weight.split(SPARED_ROWS), rows[-1].split(SPARED_ROWS), strict=True):
                own.add_(whole.float(), alpha=factor)

    def window(self, at: Window) -> WindowFolds:
        """Those of a window and of its targets, which stand one time step later."""
        folds = self.of_streams[at.start : at.stop + 1].long()
        return WindowFolds(folds[:-1], folds[1:], self.rows.get("input"), self.rows.get("output"), self.scale)
