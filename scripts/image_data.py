"""Pictures with their classes: scikit-learn's digits, CIFAR-10 and CIFAR-100."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fixlm.errors import InputError

DIGITS_FOR_VALIDATION = 450
"""Of 1,797, as many of each class as can be; always the same ones."""


@dataclass(frozen=True)
class Images:
    """A data set of n pictures to train on and m to validate with.

    Args:
        train: (n, C, S, S) float32 of mean 0 and variance 1 in each channel.
        train_classes: (n,) int64.
        valid: (m, C, S, S), scaled as ``train`` is.
        valid_classes: (m,).
    """

    train: Tensor
    train_classes: Tensor
    valid: Tensor
    valid_classes: Tensor

    @classmethod
    def of_arrays(
        cls, train: np.ndarray, classes: np.ndarray, valid: np.ndarray, valid_classes: np.ndarray
    ) -> "Images":
        """From pictures (n, S, S, C) of any numbers."""
        mean = train.mean((0, 1, 2), dtype=np.float64)
        deviation = train.std((0, 1, 2), dtype=np.float64)
        pictures = [
            torch.from_numpy(((each - mean) / deviation).astype(np.float32)).permute(0, 3, 1, 2).contiguous()
            for each in (train, valid)
        ]
        known, unknown = (torch.as_tensor(each, dtype=torch.int64) for each in (classes, valid_classes))
        return cls(pictures[0], known, pictures[1], unknown)

    def to(self, device: str) -> "Images":
        """The same on a device."""
        return Images(*(each.to(device) for each in vars(self).values()))


def digits() -> Images:
    """The 1,797 handwritten digits of 8 × 8 that come with scikit-learn."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise InputError("scikit-learn", "is not installed", fix="pip install 'fixlm[images]'") from None
    pictures, classes = load_digits(return_X_y=True)
    train, valid, train_classes, valid_classes = train_test_split(
        pictures.reshape(-1, 8, 8, 1), classes, test_size=DIGITS_FOR_VALIDATION, stratify=classes, random_state=0
    )
    return Images.of_arrays(train, train_classes, valid, valid_classes)


def cifar(name: str, column: str) -> Images:
    """CIFAR-10 or CIFAR-100 through `datasets`; as in the paper, the test split is what validates.

    Args:
        name: ``cifar10`` or ``cifar100``.
        column: the column of the classes, ``label`` or ``fine_label``.
    """
    import datasets

    try:
        splits = datasets.load_dataset(f"uoft-cs/{name}").with_format("numpy")
    except Exception as error:  # a network library's: of any class
        first = f"{type(error).__name__}: {error}".splitlines()[0]
        fix = "connect to the network once; datasets keeps a copy"
        raise InputError(name, "the data set cannot be had", found=first, fix=fix) from error
    train, test = (splits[split][:] for split in ("train", "test"))
    return Images.of_arrays(train["img"], train[column], test["img"], test[column])


def shifted(images: Tensor, pixels: int, *, mirror: bool) -> Tensor:
    """Each picture moved by up to that many pixels, over zeros, and perhaps mirrored, at random: (B, C, S, S)."""
    count, size = len(images), images.shape[-1]
    moves = torch.randint(2 * pixels + 1, (2, count, 1)) + torch.arange(size)  # (2, B, S): rows and columns
    rows, columns = moves
    if mirror:
        columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    each = torch.arange(count)[:, None, None]
    padded = F.pad(images, (pixels,) * 4).permute(0, 2, 3, 1)  # (B, S + 2p, S + 2p, C)
    device = images.device  # the draws are a CPU's everywhere, so that a seed means the same
    moved = padded[each.to(device), rows[:, :, None].to(device), columns[:, None].to(device)]
    return moved.permute(0, 3, 1, 2).contiguous()
