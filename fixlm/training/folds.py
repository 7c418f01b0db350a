"""The folds that a run trains on: see `embeddings.cross_fit`."""

import logging
from collections.abc import Mapping

import torch

from embeddings.cross_fit import FoldVectors, fold_of_tokens
from fixlm.config.train_config import TrainConfig
from fixlm.model.folds import WindowFolds
from fixlm.training.ranks import Ranks
from fixlm.training.windows import Window, in_streams

logger = logging.getLogger(__name__)


class TrainingFolds:
    """The fold of each token of the streams, and the vectors counted without it.

    Args:
        vectors: by ``input`` and ``output``, the end of the model that reads them.
        config: of the run.
        tokens: of the train split.
        ranks: of which this one reads its part of the streams.
    """

    def __init__(self, vectors: Mapping[str, FoldVectors], config: TrainConfig, tokens: int, ranks: Ranks) -> None:
        device = torch.device(config.run.device)
        # Once for both ends, where they read the same.
        held = {id(each): torch.from_numpy(each.rows).view(torch.bfloat16).to(device) for each in vectors.values()}
        self.rows = {end: held[id(each)] for end, each in vectors.items()}
        folds = config.model.cross_fit
        streams = in_streams(fold_of_tokens(tokens, folds), config.optimization.batch_size)
        self.of_streams = ranks.part(streams).to(device)
        self.scale = config.model.input_start_scale
        size = sum(rows.numel() * rows.element_size() for rows in held.values())
        ends = " and ".join(sorted(self.rows))
        logger.info(f"cross-fitting: {folds} folds, read at the {ends}; their vectors take {size / 1e6:,.0f} MB.")

    def window(self, at: Window) -> WindowFolds:
        """Those of a window and of its targets, which stand one time step later."""
        folds = self.of_streams[at.start : at.stop + 1].long()
        return WindowFolds(folds[:-1], folds[1:], self.rows.get("input"), self.rows.get("output"), self.scale)
