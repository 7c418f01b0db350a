"""Memory that torch and the kernels share."""

import numpy as np
import torch
from torch import Tensor

CACHE_LINE = 64  # bytes


def scratch(like: Tensor, rows: int, columns: int) -> Tensor:
    """An uninitialised (rows, columns) of the type and on the device of ``like``.

    On the CPU it is numpy's memory, for which the system is asked for large pages: in pages of 4 KB, fresh memory costs
    as much time as some of the arithmetic on it.
    """
    if like.device.type != "cpu":
        return like.new_empty(rows, columns)
    size = rows * columns * like.element_size()
    memory = torch.from_numpy(np.empty(size + CACHE_LINE, dtype=np.uint8))
    start = -memory.data_ptr() % CACHE_LINE  # off it, products are much slower
    return memory[start : start + size].view(like.dtype).view(rows, columns)


def as_numpy(tensor: Tensor) -> np.ndarray:
    """The same memory for a kernel, which counts on its being contiguous; bfloat16, which numpy lacks, as int16."""
    assert tensor.is_contiguous()
    tensor = tensor.detach()
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
