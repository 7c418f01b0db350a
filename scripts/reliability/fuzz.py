"""Gives the readers of files bytes that nobody meant well, by atheris: what escapes but a one-line error is a find.

python scripts/reliability/fuzz.py word2vec-binary -max_total_time=60

What follows the reader's name goes to libFuzzer; a folder in it keeps interesting inputs from one time to the next.
`tests/scripts/test_fuzz.py` has hypothesis give the same readers damaged files; what was found is kept in
`tests/attacks/`.
"""

import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from embeddings.errors import InputError, unknown_name
from fixlm import cli

WORDS = ["<eos>", "the", "cat", "of", "naïve", "10,000"]
RUN_FILES = (
    "config.json", "metrics.jsonl", "result.json", "output_matrix.safetensors", "vocabulary.txt",
    "checkpoints/step-2/state.json", "checkpoints/step-2/model.safetensors",
    "checkpoints/step-2/training.safetensors", "checkpoints/step-2/manifest.json",
)  # fmt: skip
"""Of a run directory, in the order in which the first byte of an input chooses one."""
TEXT = "the cat of naïve the 10,000\nof the cat\n"
Target = Callable[[bytes, Path], None]
"""Reads bytes, from a file that it writes into the folder."""


def read_vectors(name: str) -> Target:
    """A target that reads the bytes as a file of vectors of that name."""

    def target(content: bytes, folder: Path) -> None:
        from embeddings.readers.read_vectors import read_vectors

        path = folder / name
        path.write_bytes(gzip.compress(content, 1) if name.endswith(".gz") else content)
        (folder / "vocabulary.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
        found = read_vectors(path, {word: number for number, word in enumerate(WORDS)})
        assert found.vectors.shape == (len(found.ids), found.dim)
        assert found.dim > 0
        assert abs(found.vectors).max(initial=0) < float("inf")

    return target


def read_vocabulary(content: bytes, folder: Path) -> None:
    """Reads the bytes as the words of an array's rows."""
    from embeddings.readers.vocabulary import read_vocabulary

    (folder / "vocabulary.txt").write_bytes(content)
    assert read_vocabulary(folder / "vocabulary.txt")


def read_pieces(content: bytes, folder: Path) -> None:
    """Reads the bytes as a sentencepiece model, and text by it."""
    from fixlm.corpus.sentencepiece import Tokenizer

    tokenizer = Tokenizer(content)
    ids = tokenizer.encode([(line.split(), True) for line in TEXT.splitlines()])
    assert ids.max() < len(tokenizer.pieces)
    tokenizer.join(tokenizer.split(TEXT))


def read_corpus(content: bytes, folder: Path) -> None:
    """Reads the bytes as each of the three splits in turn."""
    from fixlm.corpus import corpus

    for split in ("train", "valid", "test"):
        for other in ("train", "valid", "test"):
            (folder / f"{other}.txt").write_bytes(content if other == split else f"{TEXT}<unk>\n".encode())
        loaded = corpus.load(str(folder))
        assert all(ids.max() < len(loaded) for ids in loaded.splits.values())


def read_run(content: bytes, folder: Path) -> None:
    """Puts the bytes in the place of one file of a run, whose manifest agrees with it, evaluates and resumes it."""
    from fixlm.config.read import read_config
    from fixlm.evaluate import EvaluateConfig, evaluate_run
    from fixlm.runs.checkpoint import MANIFEST
    from fixlm.training.fit import train

    make_run(folder.parent)
    shutil.copytree(folder.parent / "run", folder / "run", symlinks=True)
    name = RUN_FILES[content[0] % len(RUN_FILES)] if content else RUN_FILES[0]
    path, content = folder / "run" / name, content[1:]
    path.write_bytes(content)
    manifest = path.with_name(MANIFEST)
    if manifest.exists() and path != manifest:
        entries = json.loads(manifest.read_text())
        entries[path.name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        manifest.write_text(json.dumps(entries))
    (folder / "run" / "result.json").unlink(missing_ok=name != "result.json")
    with contextlib.suppress(InputError):
        evaluate_run(str(folder / "run"), EvaluateConfig(data=str(folder.parent / "data")))
    with contextlib.suppress(InputError):
        given = {"run": str(folder / "run"), "resume": True}
        train(read_config(given), given)


def make_run(folder: Path) -> None:
    """A tiny run in ``folder/run``, stopped before its end, and its text in ``folder/data``; made once."""
    if (folder / "run").exists():
        return
    (folder / "data").mkdir()
    for split in ("train", "valid", "test"):
        (folder / "data" / f"{split}.txt").write_text(TEXT * 4, encoding="utf-8")
    flags = "--output-embed random-orthogonal --hidden-size 4 --embed-size 4 --batch-size 2 --bptt 4"
    more = "--max-steps 3 --validate-every 2 --checkpoint-every 1 --threads 1"
    arguments = [*flags.split(), *more.split(), "--data", str(folder / "data"), "--run", str(folder / "run")]
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        assert cli.main(["train", *arguments]) == 0
    shutil.rmtree(folder / "run" / "checkpoints" / "step-3")
    for link in ("last", "best"):
        (folder / "run" / "checkpoints" / link).unlink()
        (folder / "run" / "checkpoints" / link).symlink_to("step-2")


def train_pieces(kind: str) -> bytes:
    """A sentencepiece model of the text."""
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.splitlines() * 20), model_writer=model, minloglevel=2, vocab_size=24,
        model_type=kind, normalization_rule_name="identity", hard_vocab_limit=False,
    )  # fmt: skip
    return model.getvalue()


def array(rows: np.ndarray) -> bytes:
    """A file of numpy."""
    file = io.BytesIO()
    np.save(file, rows)
    return file.getvalue()


def files_of_run(folder: Path) -> list[bytes]:
    """Each file of the run in a folder, after the byte that chooses it."""
    make_run(folder)
    return [bytes([i]) + (folder / "run" / file).read_bytes() for i, file in enumerate(RUN_FILES)]


ROWS = np.random.default_rng(1).standard_normal((len(WORDS), 3)).astype(np.float32)  # (V, N)
HEADER = f"{len(WORDS)} 3\n".encode()
GLOVE = "".join(f"{w} {' '.join(map(str, r.tolist()))}\n" for w, r in zip(WORDS, ROWS, strict=True)).encode()
WORD2VEC = HEADER + GLOVE
BINARY = HEADER + b"".join(w.encode() + b" " + r.tobytes() + b"\n" for w, r in zip(WORDS, ROWS, strict=True))
MATRIX = save({"vectors": ROWS}, metadata={"recipe": json.dumps({"vocabulary_size": len(WORDS), "sha256": None})})
# A text and a list of words: the readers of either take both.
TEXTS = [f"{TEXT}<unk>\n".encode(), "\n".join([*WORDS, "<unk>"]).encode()]

# Without the time in a packed file the same seeds come each time.
TARGETS: dict[str, tuple[Target, Callable[[Path], Iterable[bytes]]]] = {
    "word2vec-text": (read_vectors("v.txt"), lambda _: [WORD2VEC]),
    "word2vec-binary": (read_vectors("v.bin"), lambda _: [BINARY]),
    "glove": (read_vectors("v"), lambda _: [GLOVE]),
    "gzip": (read_vectors("v.txt.gz"), lambda _: [WORD2VEC]),
    "gzip-damaged": (read_vectors("v.gz.txt"), lambda _: [gzip.compress(file, mtime=0) for file in (WORD2VEC, BINARY)]),
    "safetensors": (read_vectors("v.safetensors"), lambda _: [MATRIX, save({"a": ROWS, "b": ROWS[0]})]),
    "npy": (read_vectors("v.npy"), lambda _: [array(ROWS), array(np.asfortranarray(ROWS.astype(np.float16)))]),
    "vocabulary": (read_vocabulary, lambda _: TEXTS),
    "sentencepiece": (read_pieces, lambda _: map(train_pieces, ("unigram", "bpe"))),
    "corpus": (read_corpus, lambda _: TEXTS),
    "run": (read_run, files_of_run),
}
"""Of each reader: what has it read some bytes, and files that it takes, which may be made in a folder."""


def well_formed(name: str, folder: Path) -> list[bytes]:
    """What a reader does take, to begin with; ``folder`` is for the run."""
    return list(TARGETS[name][1](folder))


def run_target(name: str, content: bytes, folder: Path) -> str | None:
    """Has a reader read the bytes from a file in the folder; the line it refused them with, None if it took them.

    Raises:
        AssertionError: what it refused them with is no single line.
        Exception: whatever else escaped.
    """
    inside = folder / "input"
    inside.mkdir()
    try:
        TARGETS[name][0](content, inside)
    except InputError as error:
        lines = [str(each) for each in error.errors]
        assert all(len(line.splitlines()) == 1 for line in lines), lines
        return lines[0]
    finally:
        shutil.rmtree(inside)
    return None


def command(arguments: list[str]) -> None:
    """Fuzzes the reader that the first argument names until libFuzzer is told to stop."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: fuzz.py READER [libFuzzer's flags]\n\n{__doc__}\nreaders: {', '.join(TARGETS)}")
        return
    name = arguments[0]
    if name not in TARGETS:
        raise unknown_name("READER", "reader", name, TARGETS)
    try:
        import atheris
    except ImportError:
        raise InputError("atheris", "is not installed", fix="pip install 'fixlm[fuzz]'") from None
    with atheris.instrument_imports(include=["embeddings", "fixlm"]):
        import embeddings.readers.read_vectors  # noqa: F401
        import fixlm.training.fit  # noqa: F401
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FIXLM_CACHE"] = f"{folder}/cache"
        seeds = Path(folder, "seeds")
        seeds.mkdir()
        for number, content in enumerate(well_formed(name, Path(folder))):
            (seeds / str(number)).write_bytes(content)
        sys.stderr = io.StringIO() if name == "run" else sys.stderr  # what training says of itself

        def once(content: bytes) -> None:
            shutil.rmtree(f"{folder}/cache", ignore_errors=True)  # or inputs would fill the disk
            run_target(name, content, Path(folder))

        atheris.Setup([sys.argv[0], *arguments[1:], str(seeds)], once)
        atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(cli.run(command))
