"""A run read back: its model, and what can be asked of it."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fixlm.config.schema import DataConfig
from fixlm.console import progress
from fixlm.corpus import corpus
from fixlm.corpus.corpus import Corpus
from fixlm.corpus.data_set import EOS
from fixlm.corpus.encoding import encode_text, with_counts
from fixlm.corpus.readable import ReadablePieces, ReadableWords
from fixlm.corpus.registry import is_there
from fixlm.corpus.sentencepiece import Tokenizer
from fixlm.corpus.word_vocabulary import UNK
from fixlm.errors import InputError, unknown_name
from fixlm.evaluation.generation import generate
from fixlm.evaluation.perplexity import evaluate, in_digits, perplexity_of, stream_nats
from fixlm.evaluation.sampling import Sampling
from fixlm.model.language_model import LanguageModel
from fixlm.runs.directory import RunDirectory
from fixlm.runs.load_model import find_checkpoint, load_model
from fixlm.runs.resume_check import check_corpus

if TYPE_CHECKING:
    import pandas

UNKNOWN = (UNK, "<unknown>")
"""The word that stands for words, and the piece that stands for characters, which a vocabulary lacks."""
BLANKS = " \t"
"""At the end of a prompt the model does not see them, and what it goes on with begins with its own."""


@dataclass(frozen=True, eq=False)
class TextScore:
    """How surprising each word of a text is to a model.

    Args:
        words: the n words, ``<eos>`` for the end of a line.
        nats: (n,) float64, −log probability of each; of a word of several pieces their sum.
        unknown: words that the vocabulary lacks, and how often each occurs; they were scored as ``<unk>``.
    """

    words: list[str]
    nats: np.ndarray
    unknown: Counter[str]

    @property
    def perplexity(self) -> float:
        """exp of the mean nats a word."""
        return perplexity_of(float(self.nats.mean()))

    def to_json(self) -> dict[str, Any]:
        """Plain values; ``bits`` are nats / ln 2, which is called surprisal."""
        nats = [round(each, 5) for each in self.nats.tolist()]
        bits = [round(each / math.log(2), 5) for each in self.nats.tolist()]
        mean = float(self.nats.mean())
        return {
            "perplexity": self.perplexity if math.isfinite(self.perplexity) else None,
            "nats_per_word": mean,
            "words": [
                {"word": word, "nats": each, "bits": its}
                for word, each, its in zip(self.words, nats, bits, strict=True)
            ],
            "unknown": dict(self.unknown),
        }

    def __str__(self) -> str:
        unknown = f", unknown: {with_counts(self.unknown)}" if self.unknown else ""
        return f"perplexity {in_digits(self.perplexity)} over {len(self.words):,} words{unknown}"


@dataclass(frozen=True, eq=False)
class Run:
    """A trained run; `load` reads one, `fixlm.fit` trains one.

    Args:
        directory: its files.
        config: ``config.json`` as plain values.
        model: as of the checkpoint that was asked for, not in training mode.
        data: where the corpus is now, if it moved.
    """

    directory: RunDirectory
    config: dict[str, Any]
    model: LanguageModel
    data: str | None = None

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.directory.path.resolve().name

    @cached_property
    def vocabulary(self) -> list[str]:
        """The V words, or pieces, in order of ids."""
        return self.directory.words()

    @cached_property
    def corpus(self) -> Corpus:
        """The text that the run was trained on, read when it is first asked for.

        Raises:
            InputError: it is missing, or not what it was.
        """
        source = DataConfig(**self.config["data"])
        if not self.data and not is_there(source.data):
            what = f"it names the corpus {source.data}, which is not there"
            fix = "name the folder that has the corpus now: --data FOLDER (data= in Python)"
            raise InputError(self.directory.config, what, fix=fix)
        source = self.directory.source_of_text(dataclasses.replace(source, data=self.data or source.data))
        with progress() as show:
            text = corpus.load(**vars(source), progress=show)
        check_corpus(self.directory, text)
        return text

    def perplexity(self, split: str = "test") -> float:
        """exp of the mean nats a word of the text, on a split of the run's corpus: one stream, every target once.

        Args:
            split: ``train``, ``valid`` or ``test``.

        Raises:
            InputError: there is no such split, or the corpus is missing or not what it was.
        """
        if split not in self.corpus.splits:
            raise InputError("split", "there is no such split", found=split, expected=", ".join(self.corpus.splits))
        score = evaluate(self.model, self.corpus, split)
        return score.perplexity if score.perplexity_per_word is None else score.perplexity_per_word

    def score(self, text: str) -> TextScore:
        r"""The surprisal of each word of any text, read as the start of a paragraph; needs no corpus.

        Words are separated by whitespace, as in the corpus; ``\n`` ends a paragraph.

        Raises:
            InputError: there is no word in it, or one that the vocabulary lacks and no ``<unk>`` can take.
        """
        encoded = encode_text(text, self.vocabulary, self.tokenizer)
        nats = stream_nats(self.model, np.concatenate([[encoded.end_of_line], encoded.ids]))
        of_words = np.bincount(encoded.word_of, nats, minlength=len(encoded.words))
        return TextScore(encoded.words, of_words, encoded.unknown)

    def stream(self, prompt: str = "", tokens: int = 50, *, unknown: bool = False, **sampling: Any) -> Iterator[str]:
        """What the model goes on with after a prompt, piece by piece as it is drawn; needs no corpus.

        Args:
            prompt: words, as in `score`; the start of a paragraph if empty.
            tokens: how many words (or pieces of words) are drawn.
            unknown: whether ``<unk>`` may be drawn.
            sampling: ``temperature`` (1.0), ``top_k`` (0: all), ``top_p`` (1.0) and ``seed`` (1).

        Yields:
            Text, in spaces and punctuation as people write them.

        Raises:
            InputError: a number is out of range, or the prompt has a word that no ``<unk>`` can take.
        """
        names = [field.name for field in dataclasses.fields(Sampling)]
        for name in sampling:
            if name not in names:
                raise unknown_name(name, "argument", name, [*names, "prompt", "tokens", "unknown"])
        settings = Sampling(**sampling)
        if tokens < 0:
            raise InputError("tokens", "not a number of words", found=tokens, expected="0 and more")
        end = self.vocabulary.index(EOS if self.tokenizer is None else self.tokenizer.end)
        ids = np.array([end])
        if prompt.strip():
            ids = np.append(ids, encode_text(prompt, self.vocabulary, self.tokenizer).ids)
        never = [] if unknown else [i for i, word in enumerate(self.vocabulary) if word.lstrip("▁") in UNKNOWN]
        readable = ReadableWords() if self.tokenizer is None else ReadablePieces(self.tokenizer)
        for number, line in enumerate(prompt.split("\n")):  # the spaces of what follows depend on it
            for token in itertools.chain([self.vocabulary[end]] * (number > 0), self._tokens(line)):
                readable.add(token)
        drawn = itertools.islice(generate(self.model, ids, settings, never), tokens)
        return (readable.add(self.vocabulary[i]) for i in drawn)

    def generate(self, prompt: str = "", tokens: int = 50, **options: Any) -> str:
        """What `stream` gives, as one text behind the prompt, whose last blanks are left out."""
        return prompt.rstrip(BLANKS) + "".join(self.stream(prompt, tokens, **options))

    def _tokens(self, line: str) -> list[str]:
        return line.split() if self.tokenizer is None else self.tokenizer.split(line)

    def export(self, folder: str | os.PathLike[str], *, vectors: bool = True) -> dict[str, int]:
        """Writes a folder to share, which `load` reads as it reads a run directory; see `fixlm.runs.export`.

        Args:
            folder: new, empty, or with an earlier export, which is replaced.
            vectors: whether the output matrix is written as word2vec text too, where the layer has one.

        Returns:
            The names of the files, with their bytes.

        Raises:
            InputError: the folder holds something else.
        """
        from fixlm.runs.export import export

        return export(self.directory, self.model, folder, vectors=vectors)

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        """What cuts words into pieces; None where ids stand for words."""
        if self.config["corpus"]["unit"] == "word":
            return None
        path = self.directory.tokenizer
        if not path.exists():
            raise InputError(path, "the run's tokenizer is missing", fix="copy it from where the run was trained")
        return Tokenizer(path.read_bytes())

    def metrics(self) -> pandas.DataFrame:
        """``metrics.jsonl`` as a frame: a row a record of training or of validation, a column a number."""
        import pandas

        return pandas.json_normalize([*self.directory.read_metrics()])

    def __repr__(self) -> str:
        layer = self.config["model"]["output_embed"]
        return (
            f"Run({str(self.directory.path)!r}, output_embed={layer!r}, V={self.config['corpus']['vocabulary_size']:,})"
        )


def load(path: str | os.PathLike[str], checkpoint: str = "best", data: str | None = None) -> Run:
    """Reads a run and its model; its corpus is read only when something asks for it.

    Args:
        path: the run directory, or a folder that `Run.export` wrote.
        checkpoint: ``best``, ``last`` or ``step-N``.
        data: where the corpus is now, if it moved.

    Raises:
        InputError: the run or its checkpoint is missing or damaged.

    >>> import fixlm
    >>> _ = fixlm.fit(output_embed="hadamard", data="sample", hidden_size=64, embed_size=64, max_steps=2, run="runs/second")
    >>> run = load("runs/second")
    >>> run
    Run('runs/second', output_embed='hadamard', V=11,438)
    >>> print(run.score("the king of the united kingdom"))
    perplexity ... over 6 words
    >>> run.metrics()["step"].max()
    np.int64(2)
    """  # noqa: E501
    directory = RunDirectory(path).require()
    model = load_model(directory, find_checkpoint(directory, checkpoint))
    return Run(directory, directory.read_config(), model.eval(), data)
