"""Several processes that train one model, as ``torchrun`` starts them; each is called a rank.

Rank r trains the r-th part of the B streams, with torch's DistributedDataParallel: the mean of the ranks' gradients is
the gradient of the whole batch, since all parts have one size. Rank 0 writes. What it writes is what one process with
all B streams writes, so that any number of ranks can go on from a checkpoint.
"""

import atexit
import importlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fixlm.errors import Ended, InputError, as_input_error, launched_ranks
from fixlm.model.dropout import part_of_batch
from fixlm.model.language_model import LanguageModel

PATIENCE = timedelta(hours=2)
"""How long ranks wait for rank 0, which builds the matrix and validates. A rank that died is noticed at once."""
LOST = re.compile("gloo|nccl|connection|socket", re.IGNORECASE)
"""What torch says, among other things, where a rank waits for one that is gone."""


class Ranks:
    """This process among those that train one model. With a ``count`` of 1 nothing is sent.

    Args:
        rank: its number, from 0.
        count: how many there are.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count
        self.bytes_reduced = 0
        """Bytes of gradients that this rank gave into all-reduces so far."""

    @property
    def writes(self) -> bool:
        """Whether this rank writes the run directory."""
        return self.rank == 0

    def part(self, tensor: Tensor) -> Tensor:
        """Its part of a batch in the second dimension: (…, B, …) → (…, B/ranks, …)."""
        return tensor if self.count == 1 else tensor.chunk(self.count, 1)[self.rank].contiguous()

    def whole(self, tensor: Tensor) -> Tensor:
        """The batch again, out of the parts of all ranks: (…, B/ranks, …) → (…, B, …)."""
        if self.count == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.count)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts, 1)

    def mean(self, value: float) -> float:
        """The mean of the ranks' values."""
        return value if self.count == 1 else self._reduced(value, dist.ReduceOp.SUM) / self.count

    def agreed(self, number: int) -> int:
        """The largest number that a rank has, by which all do the same."""
        return number if self.count == 1 else int(self._reduced(number, dist.ReduceOp.MAX))

    def _reduced(self, value: float, operation: Any) -> float:
        tensor = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(tensor, operation)
        return tensor.item()

    def from_first(self, make: Callable[[], Any]) -> Any:
        """What a function gives on rank 0, where alone it is called: values that JSON has."""
        if self.count == 1:
            return make()
        return json.loads(self._texts(json.dumps(make()) if self.writes else "")[0])

    @contextmanager
    def together(self) -> Iterator[None]:
        """An exception inside it, on any rank, ends all of them. Rank 0 tells it.

        Raises:
            InputError: on rank 0, if another one failed.
            Ended: on the others, if any failed.
        """
        failure = None
        try:
            yield
        except Exception as error:
            if self.count == 1:
                raise
            failure = error
        if self.count == 1:
            return
        texts = self._texts("" if failure is None else str(as_input_error(failure) or repr(failure)))
        if self.writes and failure is not None:
            raise failure
        for rank, text in enumerate(texts):
            if text:
                raise InputError(f"rank {rank}", text) if self.writes else Ended("", 2)

    def _texts(self, text: str) -> list[str]:
        """A text of each rank, as bytes: objects would come as pickles, which can run code."""
        content = torch.frombuffer(bytearray(text.encode() + b" "), dtype=torch.uint8)  # a tensor cannot be empty
        size = self.agreed(len(content))
        parts = [torch.empty(size, dtype=torch.uint8) for _ in range(self.count)]
        dist.all_gather(parts, nn.functional.pad(content, (0, size - len(content)), value=ord(" ")))
        return [bytes(part.numpy()).decode().rstrip(" ") for part in parts]

    def wait(self) -> None:
        """Goes on when all ranks are here."""
        self.agreed(0)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Within it a rank tells of an error of its own, since rank 0 does not know of it.

        Raises:
            Ended: another rank is gone. Which, and why, is told by that rank or by torchrun.
        """
        try:
            with _lost_as_ended():
                yield
        except InputError as error:
            if not self.writes:
                print(f"fixlm: rank {self.rank}: error: {error}", file=sys.stderr)
            raise

    def loss_of(self, model: LanguageModel) -> Callable[..., Any]:
        """`LanguageModel.regularized_loss`, whose backward pass leaves the mean of the ranks' gradients."""
        if self.count == 1:
            return model.regularized_loss
        # No weights are sent at the start: all ranks read the same checkpoint.
        sparse = model.output.leaves_gradients_out
        loss = DistributedDataParallel(_Loss(model), init_sync=False, find_unused_parameters=sparse)
        loss.register_comm_hook(self, _counted_mean)
        return loss


class _Loss(nn.Module):
    """A model's loss as DistributedDataParallel wants it: the forward pass of a module.

    Its parameters are those that are trained. It has no buffers, so that nothing fixed is ever sent.
    """

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.trained = nn.ParameterList(each for each in model.parameters() if each.requires_grad)
        self.loss = model.regularized_loss  # a method and no module: the model's buffers stay unknown

    def forward(self, *arguments: Any) -> Any:
        return self.loss(*arguments)


def _counted_mean(ranks: Ranks, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """The mean of the ranks' gradients in a bucket, whose bytes are counted.

    One by one, since buckets change after the first step: the ranks' numbers have to be added in the same order in a
    run that was resumed.
    """
    buffer = bucket.buffer().div_(ranks.count)
    ranks.bytes_reduced += buffer.nbytes
    sent = [dist.all_reduce(gradient, async_op=True).get_future() for gradient in bucket.gradients()]
    return torch.futures.collect_all(sent).then(lambda _: buffer)


@contextmanager
def joined() -> Iterator[Ranks]:
    """The ranks that torchrun started, which wait here for each other; this process alone where it started none."""
    count = launched_ranks()
    if count == 1:
        yield Ranks()
        return
    if not dist.is_initialized():  # as after a first training in this process
        # DistributedDataParallel imports this. Imported later, its functions would have the group as a default argument
        # and keep it alive, and its threads would abort the process where they come back to Python as that ends.
        importlib.import_module("torch.distributed.nn.functional")
        dist.init_process_group(timeout=PATIENCE)  # gloo for the CPU and, where torch has it, NCCL for CUDA
        atexit.register(dist.destroy_process_group)
    with _lost_as_ended(), part_of_batch(dist.get_rank(), count):
        yield Ranks(dist.get_rank(), count)


@contextmanager
def _lost_as_ended() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if launched_ranks() == 1 or not LOST.search(str(error)):
            raise
        raise Ended("another rank is gone; --resume goes on from the last checkpoint", 1) from error


def check_ranks(batch_size: int, device: str) -> None:
    """Raises InputErrors unless so many ranks as there are can train such a batch there; gives each its GPU."""
    count = launched_ranks()
    if count == 1:
        return
    if batch_size % count:
        what, expected = "the ranks cannot have equal parts of it", f"a multiple of {count}"
        raise InputError("--batch-size", what, found=batch_size, expected=expected)
    if device not in ("cpu", "cuda"):
        raise InputError("--device", "several ranks cannot share it", found=device, expected="cpu or cuda")
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
