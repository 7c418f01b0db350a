"""The public API as a user meets it: names, first import, `fit`, `load` and what a run answers."""

from __future__ import annotations

import doctest
import importlib
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import fixlm
from fixlm.errors import InputError

SMALL = {"hidden_size": 16, "embed_size": 16, "batch_size": 4, "bptt": 10, "max_steps": 12, "threads": 1}


def python(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    search = [str(each) for each in (*path, Path(fixlm.__file__).parents[1])]
    code = f"import sys; sys.path[:0] = {search!r}; {code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def run(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> fixlm.Run:
    folder = tmp_path_factory.mktemp("library")
    return fixlm.fit(output_embed="hadamard", data=tiny_corpus, run=folder / "a", **SMALL)


def test_the_first_import_loads_neither_torch_nor_numpy() -> None:
    code = "import fixlm; print([name for name in ('torch', 'numpy', 'pydantic', 'pandas') if name in sys.modules])"
    assert python(code).stdout == "[]\n"


def test_every_public_name_is_there_and_described() -> None:
    assert set(fixlm.__all__) <= set(dir(fixlm))
    for name in fixlm.__all__:
        assert getattr(fixlm, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fixlm.nothing


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "fit",
        "load",
        "FixedClassifier",
        "FixedOutput",
        "HadamardOutput",
        "HubRun",
        "LearnedOutput",
        "WalshOutput",
        "linear_cross_entropy",
        "replace_head",
    ],
)
def test_the_example_of_each_public_name_works(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(getattr(fixlm, name).__module__)
    found = doctest.DocTestFinder(recurse=False).find(getattr(fixlm, name), name, module)
    assert any(test.examples for test in found), "no example"
    for test in found:
        assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed == 0


def test_a_loaded_run_gives_the_perplexity_of_its_result(run: fixlm.Run) -> None:
    result = run.directory.read_result()
    assert result is not None
    loaded = fixlm.load(run.directory.path)
    for split in ("valid", "test"):
        assert loaded.perplexity(split) == result[split]["perplexity"]
    assert loaded.vocabulary == run.corpus.words
    with pytest.raises(InputError, match=r"split: there is no such split .found tset, expected train, valid, test"):
        run.perplexity("tset")


def test_metrics_are_a_frame(run: fixlm.Run) -> None:
    frame = run.metrics()
    assert frame["step"].max() == 12
    assert math.isclose(frame["validation.perplexity"].dropna().iloc[-1], run.perplexity("valid"))


def test_a_text_is_scored_word_by_word_without_the_corpus(run: fixlm.Run, tmp_path: Path) -> None:
    loaded = fixlm.load(run.directory.path, data=str(tmp_path / "gone"))
    score = loaded.score("the cat sees\nthe dog")
    assert score.words == ["the", "cat", "sees", "<eos>", "the", "dog"]
    ids = torch.tensor([run.vocabulary.index(word) for word in ["<eos>", *score.words]])
    with torch.no_grad():
        hidden, _ = loaded.model(ids[:-1, None], loaded.model.start_state(1))
        expected = F.cross_entropy(loaded.model.output(hidden[:, 0]), ids[1:], reduction="none")
    torch.testing.assert_close(torch.from_numpy(score.nats).float(), expected)
    assert math.isclose(score.perplexity, expected.mean().exp().item(), rel_tol=1e-5)
    assert not score.unknown
    assert str(score).endswith("over 6 words")


def test_words_that_the_vocabulary_lacks_are_refused_without_unk_and_counted_with_it(
    run: fixlm.Run, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"text: not in the vocabulary, which has no <unk> to take it .found 'zebra'"):
        run.score("the zebra sees")
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("a <unk> b a b\n" * 40)
    other = fixlm.fit(output_embed="random-orthogonal", data=tmp_path, run=tmp_path / "run", **SMALL)
    score = other.score("a zebra b zebra")
    assert score.unknown == {"zebra": 2}
    assert score.words == ["a", "zebra", "b", "zebra"]
    assert "unknown: zebra (2)" in str(score)
    with pytest.raises(InputError, match="text: there is no word in it"):
        other.score(" \n ")


@pytest.mark.slow
def test_the_pieces_of_a_word_are_one_surprisal(tmp_path: Path) -> None:
    settings = {**SMALL, "tokenizer": "sentencepiece", "vocab_size": 276}
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("the horses were watching other horses in the meadow\n" * 60)
    run = fixlm.fit(output_embed="hadamard", data=tmp_path, run=tmp_path / "run", **settings)
    score = run.score("the horses watching\n")
    run.directory.tokenizer.rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"tokenizer\.model: the run's tokenizer is missing"):
        fixlm.load(run.directory.path).score("the horses")
    assert score.words == ["the", "horses", "watching", "<eos>"]
    assert (score.nats > 0).all()


def test_wrong_arguments_are_value_errors_before_any_work(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(ValueError, match=r"^final_lr: out of range .found 2.0, expected .* at most 1"):
        fixlm.fit(output_embed="pmi", data="sample", final_lr=2.0, run=run)
    with pytest.raises(ValueError, match=r"^hidden_sise: unknown argument.*Did you mean 'hidden_size'"):
        fixlm.fit(hidden_sise=3, run=run)
    with pytest.raises(ValueError, match=r"^output_dim: has no effect on this output layer"):
        fixlm.fit(output_embed="tied", output_dim=3, run=run)
    assert not run.exists()


def test_another_package_called_embeddings_is_named_at_the_first_import(tmp_path: Path) -> None:
    (tmp_path / "embeddings").mkdir()
    (tmp_path / "embeddings" / "__init__.py").write_text("class GloveEmbedding: ...\n")
    failed = python("import fixlm", tmp_path)
    assert failed.returncode == 1
    last = failed.stderr.splitlines()[-1]
    assert last.startswith("ImportError: fixlm needs the package `embeddings` that comes with it, but Python finds ")
    assert str(tmp_path) in last
    assert "Fix: pip uninstall embeddings" in last
