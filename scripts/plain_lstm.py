"""A tied 2-layer LSTM language model in plain PyTorch, as its users write it: what a speedrun is compared with.

python scripts/plain_lstm.py DIRECTORY --json FILE [--hidden-size 200] [--dropout 0.2] [--epochs 40]

Network and schedule are those of PyTorch's word_language_model example, with the tied matrix of Inan et al. (2017): 20
streams, windows of 35 words, SGD whose rate of 20 is divided by 4 after an epoch without progress on valid, gradients
clipped at 0.25. It uses nothing of fixlm.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STREAMS, SCORED_STREAMS, WINDOW = 20, 10, 35
RATE, CLIP = 20.0, 0.25
END = "<eos>"
FILES = {split: f"{split}.txt" for split in ("train", "valid", "test")}


class PlainLstm(nn.Module):
    """Logits are W · LSTM(W[ids]) + b."""

    def __init__(self, words: int, size: int, dropout: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(words, size)
        self.lstm = nn.LSTM(size, size, num_layers=2, dropout=dropout)
        self.decoder = nn.Linear(size, words)
        self.decoder.weight = self.encoder.weight
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, ids: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(T, B) ids → (T·B, V) logits, and the state to go on from."""
        outputs, state = self.lstm(self.drop(self.encoder(ids)), state)
        return self.decoder(self.drop(outputs)).flatten(0, 1), state


def read(directory: Path) -> tuple[dict[str, Tensor], int]:
    """The ids of each split, and how many words there are."""
    ids: dict[str, int] = {}
    splits = {}
    for split, name in FILES.items():
        *lines, last = (directory / name).read_text(encoding="utf-8").split("\n")
        words: list[str] = []
        for line in [*lines, *([last] if last else [])]:
            own = line.split()
            words += own if own[-1:] == [END] else [*own, END]
        splits[split] = torch.tensor([ids.setdefault(word, len(ids)) for word in words])
    return splits, len(ids)


def in_streams(ids: Tensor, streams: int) -> Tensor:
    """(len / streams, streams): the text side by side, its rest cut off."""
    length = len(ids) // streams
    return ids[: length * streams].view(streams, length).t().contiguous()


def windows(text: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Inputs and the words that follow them."""
    starts = range(0, len(text) - 1, WINDOW)
    return [(text[i : i + WINDOW][: len(text) - 1 - i], text[i + 1 : i + 1 + WINDOW].flatten()) for i in starts]


def train_epoch(model: PlainLstm, text: Tensor, rate: float, steps: int | None) -> int:
    """One pass of SGD, or its first steps; how many words it read."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    state, words = None, 0
    for inputs, targets in windows(text)[:steps]:
        if state is not None:
            state = (state[0].detach(), state[1].detach())
        optimizer.zero_grad()
        logits, state = model(inputs, state)
        F.cross_entropy(logits, targets).backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        words += len(targets)
    return words


@torch.no_grad()
def perplexity(model: PlainLstm, text: Tensor) -> float:
    """exp of the mean nats of a word."""
    model.eval()
    state, nats, words = None, 0.0, 0
    for inputs, targets in windows(text):
        logits, state = model(inputs, state)
        nats += F.cross_entropy(logits, targets, reduction="sum").item()
        words += len(targets)
    return math.exp(nats / words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="a folder with train.txt, valid.txt and test.txt")
    parser.add_argument("--json", type=Path, required=True, help="the file to write the figures to, after each epoch")
    parser.add_argument("--hidden-size", type=int, default=200, help="(default: 200)")
    parser.add_argument("--dropout", type=float, default=0.2, help="(default: 0.2)")
    parser.add_argument("--epochs", type=int, default=40, help="(default: 40)")
    parser.add_argument("--max-steps", type=int, help="stop each epoch after so many windows (default: all)")
    parser.add_argument("--threads", type=int, default=2, help="(default: 2)")
    parser.add_argument("--seed", type=int, default=1, help="(default: 1)")
    asked = parser.parse_args()
    if missing := [name for name in FILES.values() if not (asked.directory / name).is_file()]:
        parser.error(f"{asked.directory}: there is no {missing[0]}")
    torch.manual_seed(asked.seed)
    torch.set_num_threads(asked.threads)
    splits, words = read(asked.directory)
    train = in_streams(splits["train"], STREAMS)
    valid, test = (in_streams(splits[split], SCORED_STREAMS) for split in ("valid", "test"))
    model = PlainLstm(words, asked.hidden_size, asked.dropout)
    rate, best, epochs = RATE, math.inf, list[dict[str, float]]()
    weights = model.state_dict()
    for _ in range(asked.epochs):
        began = time.perf_counter()
        read_words = train_epoch(model, train, rate, asked.max_steps)
        trained = time.perf_counter()
        found = perplexity(model, valid)
        took = {"words": read_words, "train_seconds": trained - began, "valid_seconds": time.perf_counter() - trained}
        epochs.append(took | {"valid": found, "rate": rate})
        if found < best:
            best, weights = found, {name: value.clone() for name, value in model.state_dict().items()}
        else:
            rate /= 4
        figures = {"V": words, "words_an_epoch": train.numel() - STREAMS, "epochs": epochs}
        asked.json.write_text(json.dumps(figures, indent=2) + "\n")
        print(f"epoch {len(epochs)}: valid {found:.2f}, {sum(took.values()) - read_words:.0f} s", flush=True)
    model.load_state_dict(weights)
    figures |= {"valid": best, "test": perplexity(model, test)}
    asked.json.write_text(json.dumps(figures, indent=2) + "\n")
    print(f"valid {best:.2f}, test {figures['test']:.2f}")


if __name__ == "__main__":
    main()
