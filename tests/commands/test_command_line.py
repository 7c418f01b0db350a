"""What the command line refuses, and the line it says then."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fixlm import cli


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """The error lines of a command that must end with status 2, without a traceback and with nothing on stdout."""
    assert cli.main(list(arguments)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    lines = [line for line in said.err.splitlines() if line.startswith("fixlm: error: ")]
    return [line.removeprefix("fixlm: error: ") for line in lines]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--output-embed pmj", "--output-embed: unknown output embedding 'pmj'. Fix: Did you mean 'pmi'? Choose one "),
        ("--input-embed fixd", "--input-embed: unknown input embedding 'fixd'. Fix: Did you mean 'fixed'?"),
        ("--output-embed no/such.txt", "--output-embed: there is no such file of vectors (found no/such.txt)"),
        ("--lr nan", "--lr: out of range (found nan, expected a number above 0 and at most 100)."),
        ("--lr inf", "--lr: out of range (found inf, expected a number above 0 and at most 100)."),
        ("--lr=-1", "--lr: out of range (found -1, expected a number above 0 and at most 100)."),
        ("--lr 0", "--lr: out of range (found 0, expected a number above 0 and at most 100)."),
        ("--lr fast", "--lr: not a number (found 'fast', expected a number above 0 and at most 100)."),
        ("--dropout 1.5", "--dropout: out of range (found 1.5, expected a number at least 0 and below 1)."),
        ("--epochs 0", "--epochs: out of range (found 0, expected a whole number at least 1)."),
        ("--batch-size -3", "--batch-size: out of range (found -3, expected a whole number at least 1)."),
        ("--bptt 0", "--bptt: out of range (found 0, expected a whole number at least 1)."),
        ("--hidden-size 2.5", "--hidden-size: not a number (found '2.5', expected a whole number at least 1)."),
        ("--output-dim 0", "--output-dim: out of range (found 0, expected a whole number at least 1)."),
        ("--seed 4294967296", "--seed: out of range (found 4294967296, expected a whole number at least 0)."),
        ("--precision float16", "--precision: unknown choice 'float16'. Fix: Did you mean 'bfloat16'?"),
        ("--output-emb pmi", "--output-emb: unknown flag (flags cannot be abbreviated). Fix: Did you mean '--output-embed'?"),
        ("--lr", "command line: argument --lr: expected one argument. Fix: see --help"),
        ("surplus", "surplus: unexpected argument. Fix: see --help"),
        ("''", "command line: an empty argument. Fix: remove it; see --help"),
        ("--output-embed ~no-such-user/v.txt", "--output-embed: there is no such file of vectors (found ~no-such-user/v.txt)"),
        ("--tokenizer ~no-such-user/x.model", "--tokenizer: ~no-such-user/x.model cannot be read"),
        ("--tokenizer-type bpe", "--tokenizer-type: has no effect without --tokenizer sentencepiece. Fix: remove the flag, or add --tokenizer sentencepiece"),
        ("--output-embed pmi --learned-words-scale 4", "--learned-words-scale: has no effect without --learned-words. Fix: remove the flag, or add --learned-words"),
        ("--output-embed hadamard --alpha 8 --alpha-start 4", "--alpha-start: has no effect beside --alpha, which holds α. Fix: remove one of the two flags"),
        ("--output-embed hadamard --alpha 8 --alpha-weight-decay 0", "--alpha-weight-decay: has no effect beside --alpha, which holds α. Fix: remove one of the two flags"),
        ("--output-embed pmi-signs --pmi-signs-lags 1,2 --pmi-signs-window 3", "--pmi-signs-window: has no effect beside --pmi-signs-lags, whose last number is the window (found --pmi-signs-lags 1,2). Fix: remove one of the two flags"),
        ("--output-embed pmi-signs --pmi-signs-rotation random --pmi-signs-iterations 9", "--pmi-signs-iterations: has no effect without --pmi-signs-rotation itq. Fix: remove the flag, or add --pmi-signs-rotation itq"),
        ("--output-embed walsh --output-map mlp", "--output-map: has no effect on this output layer (found --output-embed walsh). Fix: remove the flag, or choose --output-embed random-orthogonal, hadamard, "),
        ("--output-embed pmi --output-map-size 9", "--output-map-size: only a perceptron has this size (found --output-map auto). Fix: remove the flag, or add --output-map mlp"),
        ("--output-embed hadamard --word-scales", "--word-scales: has no effect on this output layer (found --output-embed hadamard). Fix: remove the flag, or choose --output-embed random-orthogonal, sylvester"),
        ("--output-embed tied --input-embed fixed", "--input-embed: 'fixed' needs an output matrix (found --output-embed tied)."),
        ("--output-embed pmi --input-embed fixed --input-start pmi", "--input-start: only a learned input embedding has a start (found --input-embed fixed)."),
        ("--output-embed pmi --output-start pmi", "--output-start: has no effect on this output layer (found --output-embed pmi). Fix: remove the flag, or choose --output-embed learned, adaptive, walsh"),
        ("--output-embed pmi --input-embed fixed --input-start-scale 2", "--input-start-scale: a frozen input embedding stays as it is (found --input-embed fixed)."),
        ("--output-embed tied --output-start pmi", "--output-start: has no effect on this output layer (found --output-embed tied). Fix: use --input-start"),
        ("--output-embed tied --output-start-scale 4", "--output-start-scale: has no effect on this output layer (found --output-embed tied). Fix: use --input-start-scale"),
        ("--output-embed walsh --output-start pmy", "--output-start: unknown output start 'pmy'. Fix: Did you mean 'pmi'?"),
        ("--input-start pmy", "--input-start: unknown input start 'pmy'. Fix: Did you mean 'pmi'?"),
        ("--output-embed tied --input-embed pmi", "--input-embed: tied trains the input embedding (found pmi, expected learned)."),
        ("--output-embed hadamard --pmi-window 3", "--pmi-window: has no effect: no pmi matrix is built (found --output-embed hadamard). Fix: remove the flag, or choose --output-embed pmi"),
        ("--output-embed pmi --pmi-lags 2,1", "--pmi-lags: not a list of numbers (found '2,1', expected rising whole numbers, such as 1,2,30)"),
        ("--output-embed pmi --pmi-lags 1,2 --pmi-window 3", "--pmi-window: has no effect beside --pmi-lags, whose last number is the window (found --pmi-lags 1,2). Fix: remove one of the two flags"),
        ("--output-embed pmi --cross-fit 1", "--cross-fit: without its only fold no text is left to count (found 1, expected 0, or 2 and more)"),
        ("--output-embed tied --cross-fit 4", "--cross-fit: has no effect: this run has no vectors that are counted on the train split (found --output-embed tied). Fix: remove the flag, or add --input-start pmi"),
        ("--output-embed pmi --learned-words 9 --word-scales", "--word-scales: the trained rows of --learned-words have a length of their own (found --learned-words 9). Fix: remove one of the two flags"),
        ("--output-embed pmi --tail-dim 64", "--tail-dim: only beside rows that are trained are the others short (found --learned-words 0). Fix: add --learned-words 4096"),
        ("--output-embed pmi --tail-clusters 2", "--tail-clusters: only beside rows that are trained are clusters (found --learned-words 0). Fix: add --learned-words 4096"),
        ("--output-embed tied --learned-words 9", "--learned-words: has no effect on this output layer (found --output-embed tied). Fix: remove the flag, or choose --output-embed "),
        ("--output-embed walsh --learned-words 9 --learned-words-scale 4", "--learned-words-scale: has no effect on this output layer (found --output-embed walsh). Fix: remove the flag, or choose --output-embed "),
        ("--output-embed walsh --learned-words 9 --tail-dim 64", "--tail-dim: has no effect on this output layer (found --output-embed walsh). Fix: remove the flag, or choose --output-embed "),
        ("--output-embed adaptive --learned-words 9", "--learned-words: has no effect on this output layer (found --output-embed adaptive). Fix: remove the flag, or choose --output-embed random-orthogonal, sylvester, word2vec, pmi, pmi-signs, cca, walsh"),
        ("--output-embed learned --alpha-weight-decay 0.1", "--alpha-weight-decay: has no effect: this output layer has no α (found --output-embed learned). Fix: remove the flag"),
        ("--output-embed tied --output-lr 0.1", "--output-lr: has no effect: the layer trains no matrix of its own (found --output-embed tied). Fix: remove the flag"),
        ("--output-embed hadamard --output-lr 0.1", "--output-lr: has no effect: the layer trains no matrix of its own (found --output-embed hadamard). Fix: remove the flag"),
        ("--num-layers 1 --dropout-between 0.1", "--dropout-between: has no effect without --num-layers 2 or more"),
        ("--output-embed walsh --walsh-positions random --walsh-pmi-dim 9", "--walsh-pmi-dim: it is of families by PMI vectors (found --walsh-positions random)"),
        ("--output-embed pmi --pretrained-format text", "--pretrained-format: has no effect: no pretrained matrix is built (found --output-embed pmi). Fix: remove the flag, or choose --output-embed FILE, a file of vectors"),
        ("--output-embed pmi --pmi-lags 1,2,30 --pmi-window 10", "--pmi-window: has no effect beside --pmi-lags, whose last number is the window (found --pmi-lags 1,2,30). Fix: remove one of the two flags"),
        ("--preset speedrun-100 --walsh-families 64", "--walsh-families: has no effect: no walsh matrix is built (found --output-embed cca). Fix: remove the flag, or choose --output-embed walsh; --preset speedrun-100 sets --output-embed"),
        ("--preset speedrun-100 --learned-words 0", "--tail-clusters: only beside rows that are trained are clusters (found --learned-words 0). Fix: --preset speedrun-100 sets --tail-clusters: give it a value that fits"),
        ("--pmi-window many", "--pmi-window: not a number (found 'many', expected a whole number"),
        pytest.param("--output-embed pmi --output-dim 12000", "--output-dim: too large for the PMI matrix of 11438 words (found 12000, expected at most 11437).", marks=pytest.mark.slow),
        ("--output-embed pmi --pmi-window 0", "--pmi-window: out of range (found 0, expected a whole number at least 1)."),
        ("--output-embed hadamard --output-dim 4", "--output-dim: the Hadamard rule has 4 rows at N = 4 (found 11,438 words). Fix: N = 32 is enough"),
        ("--num-layers 101", "--num-layers: out of range (found 101, expected a whole number at least 1 and at most 100)."),
        ("--weight-drop 1", "--weight-drop: out of range (found 1, expected a number at least 0 and below 1)."),
        ("--preset adw", "--preset: unknown choice 'adw'. Fix: Did you mean 'awd'?"),
        ("--recipe adw", "--preset: unknown choice 'adw'. Fix: Did you mean 'awd'?"),
        ("--ema-decay 0.9", "--ema-decay: has no effect without --average ema (found --average none). Fix: remove the flag, or add --average ema"),
        ("--nonmono 3 --average ema", "--nonmono: has no effect without --average nt-asgd (found --average ema)."),
        ("--beta1 0.8 --recipe awd", "--beta1: has no effect without --optimizer adamw (found --optimizer sgd)."),
        ("--final-lr 0.1 --schedule constant", "--final-lr: has no effect without --schedule cosine (found --schedule constant)."),
        ("--recipe awd --fine-tune x --nonmono 3", "--nonmono: has no effect: fine-tuning averages from its first step (found --fine-tune x)."),
        ("--fine-tune no-such-run", "no-such-run: there is no such run directory. Fix: python -m fixlm.train makes one"),
        ("--vocab-size 100", "--vocab-size: words have no chosen vocabulary size (found 100)."),
        ("--data wikitext2", "--data: unknown data set or folder 'wikitext2'. Fix: Did you mean 'wikitext-2'?"),
        ("--data sample --batch-size 100000", "--data: the train split is too short for the batch (found 383,853 tokens, expected at least 7,100,000)."),
        ("--device warp", "--device: this torch cannot use it (found warp, expected cpu"),
    ],
)  # fmt: skip
def test_train_refuses(
    flags: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = [] if "--data" in flags else ["--data", "sample"]
    (line,) = refused(capsys, "train", *data, *shlex.split(flags))
    assert line.startswith(message), line
    assert not any((tmp_path / "runs").glob("*"))  # nothing is left of a run that did not start


def test_an_error_about_a_file_of_vectors_names_the_flags_of_train(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "v.txt"
    file.write_text("DAS 1 0\nUND 0 1\n")
    (line,) = refused(capsys, "train", *small, "--output-embed", str(file))
    assert line.endswith("tokenisation, or try --pretrained-lowercase-fallback")
    (line,) = refused(capsys, "train", *small, "--output-embed", str(file), "--output-dim", "4")
    assert line.endswith("(found 2, expected 4). Fix: set --output-dim to 2")


def test_all_problems_are_reported_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = refused(capsys, "train", "--lr", "0", "--epochs", "-1", "--output-embed", "pmj", "--pmi-smoothing", "x")
    assert sorted(line.split(":")[0] for line in lines) == ["--epochs", "--lr", "--output-embed", "--pmi-smoothing"]


@pytest.mark.slow
def test_a_run_directory_that_cannot_take_the_run(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    where = ["train", *small, "--output-embed", "tied", "--run"]
    assert refused(capsys, *where, str(file))[0].startswith(f"--run {file}: is a file")
    assert refused(capsys, *where, str(file / "below"))[0].startswith(f"--run {file}/below: cannot be written")
    other = tmp_path / "other"
    assert cli.main([*where, str(other)]) == 0
    capsys.readouterr()
    (line,) = refused(capsys, *where, str(other), "--lr", "0.1")
    assert line.startswith(f"--run {other}: the directory is not empty. Fix: --resume to go on with it")


@pytest.mark.slow
def test_resuming_what_is_not_there_or_differs(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert refused(capsys, "train", "--resume", "--run", str(run))[0].startswith(
        f"{run}: there is no such run directory"
    )
    run.mkdir()
    (line,) = refused(capsys, "train", "--resume", "--run", str(run))
    assert line == f"{run}: not a run directory (found no config.json in it)."
    run.rmdir()
    assert cli.main(["train", *small, "--output-embed", "hadamard", "--run", str(run)]) == 0
    capsys.readouterr()
    flags = ["--output-embed", "tied", "--lr", "0.1", "--patience", "3", "--threads", "1"]
    lines = refused(capsys, "train", "--resume", "--run", str(run), *flags)
    assert lines == [
        "--output-embed: differs from the run to resume (found tied, expected hadamard). "
        "Fix: drop the flag, or start another run",
        "--lr: differs from the run to resume (found 0.1, expected 0.006). Fix: drop the flag, or start another run",
        "--patience: differs from the run to resume (found 3, expected none). Fix: drop the flag, or start another run",
    ]
    only = ["--output-map", "mlp", "--alpha-start", "16"]  # flags of its own layer, which is not named again
    (line,) = refused(capsys, "train", "--resume", "--run", str(run), *only)
    assert line.startswith("--output-map: differs from the run to resume (found mlp, expected auto).")
    (run / "result.json").unlink()
    for checkpoint in (run / "checkpoints").iterdir():
        checkpoint.unlink() if checkpoint.is_symlink() else [file.unlink() for file in checkpoint.iterdir()]
    assert cli.main(["train", "--resume", "--run", str(run)]) == 2
    assert "--resume: no checkpoint to go on from" in capsys.readouterr().err


def test_evaluate_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = refused(capsys, "evaluate", str(tmp_path / "none"))
    assert line.startswith(f"{tmp_path}/none: there is no such run directory")
    (line,) = refused(capsys, "evaluate")
    assert line == "command line: the following arguments are required: RUN. Fix: see --help"
    (line,) = refused(capsys, "evaluate", str(tmp_path), "--split", "validation")
    assert line.startswith("--split: unknown choice 'validation'. Fix: Did you mean 'valid'?")


def test_unknown_commands_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "trian")[0].startswith("fixlm: unknown command 'trian'. Fix: Did you mean 'train'?")


@pytest.mark.parametrize("command", ["fixlm.train", "fixlm.evaluate", "fixlm.export", "fixlm.harness", "fixlm.compare"])
def test_help_imports_nothing_heavy_and_shows_defaults(command: str) -> None:
    heavy = ("torch", "gensim", "datasets", "scipy", "sentencepiece", "rich", "matplotlib", "lm_eval")
    program = f"""
import runpy, sys
sys.argv = ["{command}", "--help"]
try:
    runpy.run_module("{command}", run_name="__main__", alter_sys=True)
except SystemExit as stop:
    assert stop.code == 0
assert not set({heavy}) & set(sys.modules), set({heavy}) & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "(default: " in done.stdout
    if command in ("fixlm.train", "fixlm.compare"):
        for flag in ("--output-embed", "--lr", "--matrix-seed", "--pmi-window", "--word2vec-vectors"):
            assert flag in done.stdout


def test_the_console_script_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    out = capsys.readouterr().out
    assert "train" in out
    assert "evaluate" in out
    assert "compare" in out


def test_a_reader_that_goes_away_gets_no_traceback() -> None:
    program = f"{sys.executable} -m fixlm.train --help | head -1"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("usage: ")
    assert done.stderr == ""


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--lr", "0", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err
