"""lm-evaluation-harness: its perplexity is ours. Where it is not installed, stand-ins take the place of its classes."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fixlm
from fixlm import cli
from fixlm.errors import InputError

SMALL = {"hidden_size": 16, "embed_size": 16, "batch_size": 4, "bptt": 10, "max_steps": 12, "threads": 1}


@dataclass
class Instance:
    """What the harness asks a model: here only its arguments."""

    args: tuple[Any, ...]


class LM:
    """The base of the harness's models."""

    registered: dict[str, type] = {}  # noqa: RUF012

    def __init__(self) -> None:
        self.cache_hook = None


@pytest.fixture(scope="module")
def harness() -> ModuleType:
    """The adapter, imported on stand-ins for the harness."""
    parts = {name: ModuleType(f"lm_eval.api.{name}") for name in ("instance", "model", "registry")}
    parts["instance"].Instance = Instance  # type: ignore[attr-defined]
    parts["model"].LM = LM  # type: ignore[attr-defined]
    parts["registry"].register_model = lambda name: lambda kind: LM.registered.setdefault(name, kind)  # type: ignore[attr-defined]
    modules = {"lm_eval": ModuleType("lm_eval"), "lm_eval.api": ModuleType("lm_eval.api")}
    modules |= {module.__name__: module for module in parts.values()}
    with pytest.MonkeyPatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        patch.delitem(sys.modules, "fixlm.evaluation.harness", raising=False)
        adapter = importlib.import_module("fixlm.evaluation.harness")
        del sys.modules["fixlm.evaluation.harness"]  # so that another test imports it on the harness itself
        return adapter


@pytest.fixture(scope="module")
def run(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> fixlm.Run:
    return fixlm.fit(output_embed="hadamard", data=tiny_corpus, run=tmp_path_factory.mktemp("harness") / "a", **SMALL)


@pytest.fixture(scope="module")
def model(harness: ModuleType, run: fixlm.Run) -> Any:
    return LM.registered["fixlm"](run=str(run.directory.path), batch_size=1, device=None)


def word_perplexity(harness: ModuleType, model: Any, task: dict[str, Any]) -> float:
    """What the harness does with a task: it asks the model, and weights by words."""
    (document,) = task["custom_dataset"](model_args="any")[task["test_split"]]
    request = Instance((task["doc_to_text"](document), task["doc_to_target"](document)))
    nats, words = task["process_results"](document, model.loglikelihood([request]))["word_perplexity"]
    return math.exp(-nats / words)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_the_perplexity_of_the_task_is_that_of_the_run(
    split: str, harness: ModuleType, model: Any, run: fixlm.Run, tiny_corpus: Path
) -> None:
    """The train split is longer than the windows in which a text is read."""
    task = harness.corpus_task(str(tiny_corpus), split)
    assert task["task"].endswith(f"-words-{split}")
    assert word_perplexity(harness, model, task) == pytest.approx(run.perplexity(split), rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("tokenizer", [{}, {"tokenizer": "sentencepiece", "vocab_size": 277}])
def test_a_text_that_begins_with_a_blank_line_as_wikitext_does(
    tokenizer: dict[str, Any], harness: ModuleType, tmp_path: Path
) -> None:
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text(" \n = Horses = \n \n the <unk> horses  were watching \n\n" * 60)
    run = fixlm.fit(output_embed="hadamard", data=tmp_path, run=tmp_path / "run", **SMALL, **tokenizer)
    model = harness.HarnessModel(tmp_path / "run")
    found = word_perplexity(harness, model, harness.corpus_task(str(tmp_path)))
    assert found == pytest.approx(run.perplexity(), rel=1e-9)


def test_log_likelihoods_are_those_of_the_score(model: Any, run: fixlm.Run) -> None:
    text = "the cat sees the dog .\nthe bird"
    nats = run.score(text).nats
    assert model.loglikelihood_rolling([Instance((text,))]) == pytest.approx([-nats.sum()])
    ((whole, _),) = model.loglikelihood([Instance(("", text))])
    assert whole == pytest.approx(-nats.sum())
    ((start, _), (rest, _), (nothing, _)) = model.loglikelihood(
        [Instance(("the", " cat sees")), Instance(("the cat sees", text[12:])), Instance(("the", " "))]
    )
    ((both, _),) = model.loglikelihood([Instance(("the", text[3:]))])
    assert start + rest == pytest.approx(both)
    assert nothing == 0


def test_the_most_probable_continuation_is_greedy_and_no_other(model: Any, run: fixlm.Run) -> None:
    words = sorted(run.vocabulary, key=lambda word: run.score(f"the cat {word}").nats[-1])
    answers = model.loglikelihood([Instance(("\nthe cat", f" {word}")) for word in words if word != "<eos>"])
    assert [greedy for _, greedy in answers] == [words[0] != "<eos>", *[False] * (len(answers) - 1)]
    (likely,) = (next(run.stream("the cat", 1, temperature=0.0)),)
    assert likely.strip() == words[0]


def test_text_ends_at_the_first_stop_and_is_greedy_unless_asked(model: Any, run: fixlm.Run) -> None:
    whole = "".join(run.stream("the cat", 8, temperature=0.0))
    sampled = "".join(run.stream("the cat", 8, temperature=0.7, top_k=3))
    settings: list[dict[str, Any]] = [
        {"max_gen_toks": 8, "temperature": 0.7},
        {"until": ["zebra", whole[5:8], whole[3:5]], "max_new_tokens": 8},
        {"until": "", "do_sample": True, "temperature": 0.7, "top_k": 3, "max_tokens": 8},
        {"do_sample": True, "temperature": 0.0, "max_tokens": 8},
    ]
    found = model.generate_until([Instance(("the cat", each)) for each in settings])
    assert found == [whole, whole[: min(whole.index(whole[5:8]), whole.index(whole[3:5]))], sampled, whole]


def test_what_is_wrong_is_named(
    harness: ModuleType, run: fixlm.Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=r"split: unknown split 'tset'.*Did you mean 'test'"):
        harness.corpus_task("sample", "tset")
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "lm_eval" else find_spec(name, *rest)
    )
    path = str(run.directory.path)
    for arguments, message in (
        ([path], "lm-evaluation-harness: is not installed. Fix: pip install 'fixlm[harness]'"),
        (
            [path, "--tasks", "piqa", "--split", "valid"],
            "--tasks: a task has its own text. Fix: drop --data and --split",
        ),
    ):
        assert cli.main(["harness", *arguments]) == 2
        assert message in capsys.readouterr().err


def test_the_committed_output_of_the_harness_agrees_with_fixlm_and_the_page() -> None:
    root = Path(__file__).parents[2]
    found = json.loads((root / "results" / "harness.json").read_text())
    perplexity = found["results"]["wikitext-2-words-test"]["word_perplexity"]
    assert perplexity == pytest.approx(found["run_perplexity"], abs=1e-4)
    page = (root / "docs" / "sharing.md").read_text()
    assert f"| lm-evaluation-harness {found['versions']['lm_eval']} | {perplexity:.3f} |" in page
    assert f"| fixlm | {found['run_perplexity']:.3f} |" in page


@pytest.mark.slow
def test_the_harness_itself_finds_the_perplexity_of_the_run(
    run: fixlm.Run, tiny_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is the extra 'harness', which tests do not install")
    path = str(run.directory.path)
    assert cli.main(["harness", path, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (measures,) = found["results"].values()
    assert measures["word_perplexity"] == pytest.approx(found["run_perplexity"], rel=1e-9)
    assert found["run_perplexity"] == run.perplexity()
    assert cli.main(["harness", path, "--tasks", "no-such-task"]) == 2
    assert "--tasks: the harness has no such task (found no-such-task)" in capsys.readouterr().err
    import lm_eval

    from fixlm.evaluation.harness import corpus_task

    task = corpus_task(str(tiny_corpus), "valid")
    found = lm_eval.simple_evaluate(model="fixlm", model_args=f"run={path}", tasks=[task], bootstrap_iters=0)
    (measures,) = found["results"].values()
    assert measures["word_perplexity,none"] == pytest.approx(run.perplexity("valid"), rel=1e-9)
