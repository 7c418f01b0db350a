"""A run that is exported: the same numbers from the folder, nothing twice, nothing of others lost, and the hub."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from gensim.models import KeyedVectors
from huggingface_hub import ModelCard
from safetensors.torch import load_file

import fixlm
from fixlm import cli
from fixlm.errors import InputError
from fixlm.evaluation import hub
from fixlm.runs.model_card import model_card

SMALL = {"hidden_size": 16, "embed_size": 16, "batch_size": 4, "bptt": 10, "max_steps": 12, "threads": 1}
LAYERS: dict[str, dict[str, Any]] = {
    "tied": {"output_embed": "tied"},
    "walsh": {"output_embed": "walsh", "walsh_families": 16, "walsh_positions": "frequency"},
    "learned": {"output_embed": "learned"},
    "hadamard": {"output_embed": "hadamard"},
    "pmi": {"output_embed": "pmi", "output_dim": 8, "cross_fit": 0},
    "fixed-twice": {"output_embed": "random-orthogonal", "input_embed": "fixed"},
    "twice-by-name": {"output_embed": "pmi", "output_dim": 8, "input_embed": "pmi", "embed_size": 8},
    "twice-of-two-lengths": {"output_embed": "pmi", "output_dim": 8, "input_embed": "pmi", "embed_size": 10},
    "learned-words": {"output_embed": "random-orthogonal", "learned_words": 3},
    "clusters": {"output_embed": "random-orthogonal", "learned_words": 3, "tail_clusters": 2},
    "adaptive": {"output_embed": "adaptive", "adaptive_cutoffs": "4,8"},
}


@pytest.fixture(scope="module")
def trained(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], fixlm.Run]:
    folder = tmp_path_factory.mktemp("runs")
    return lambda name: fixlm.fit(**SMALL | LAYERS[name], data=tiny_corpus, run=folder / name)


@pytest.fixture
def run(trained: Callable[[str], fixlm.Run]) -> fixlm.Run:
    return trained("tied")


@pytest.mark.parametrize("name", LAYERS)
def test_an_exported_run_gives_the_same_bits(
    name: str, trained: Callable[[str], fixlm.Run], tmp_path: Path, tiny_corpus: Path
) -> None:
    run = trained(name)
    files = run.export(tmp_path / "a")
    assert {path.name for path in (tmp_path / "a").iterdir()} == {*files}
    for loaded in (fixlm.load(tmp_path / "a"), fixlm.HubRun.from_pretrained(tmp_path / "a", data=str(tiny_corpus))):
        state = loaded.model.state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in run.model.state_dict().items())
        assert loaded.score("the cat").nats.tolist() == run.score("the cat").nats.tolist()
        assert loaded.generate("the", 9) == run.generate("the", 9)
    assert loaded.perplexity() == run.perplexity()
    assert loaded.export(tmp_path / "b") == {**files, "README.md": (tmp_path / "b" / "README.md").stat().st_size}
    assert (tmp_path / "b" / "model.safetensors").read_bytes() == (tmp_path / "a" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", LAYERS)
def test_no_tensor_is_there_twice(name: str, trained: Callable[[str], fixlm.Run], tmp_path: Path) -> None:
    trained(name).export(tmp_path)
    tensors = [tensor for path in tmp_path.glob("*.safetensors") for tensor in load_file(path).values()]
    matrices = [tensor for tensor in tensors if tensor.dim() == 2]
    assert not [one.shape for one, other in itertools.combinations(matrices, 2) if torch.equal(one, other)]


@pytest.mark.slow
@pytest.mark.parametrize("tokenizer", [{"tokenizer": "sentencepiece", "vocab_size": 276}, {"tokenizer": "bytes"}])
def test_a_run_on_pieces_brings_its_tokenizer(tokenizer: dict[str, Any], tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("the horses were watching other horses in the meadow\n" * 60)
    run = fixlm.fit(data=tmp_path, run=tmp_path / "run", output_embed="hadamard", **SMALL, **tokenizer)
    run.export(tmp_path / "a")
    loaded = fixlm.load(tmp_path / "a", data=str(tmp_path))
    assert loaded.perplexity() == run.perplexity()
    for text in ("the horses", "naïve 漢 horses"):
        assert loaded.score(text).nats.tolist() == run.score(text).nats.tolist()
        assert loaded.score(text).words == text.split()
    assert loaded.generate("the horses", 20) == run.generate("the horses", 20)


@pytest.mark.parametrize("name", ["learned-words", "hadamard", "walsh"])
def test_the_vectors_are_those_of_the_output_layer(
    name: str, trained: Callable[[str], fixlm.Run], tmp_path: Path
) -> None:
    run = trained(name)
    run.export(tmp_path)
    vectors = KeyedVectors.load_word2vec_format(tmp_path / "output_vectors.txt")
    assert vectors.index_to_key == run.vocabulary
    np.testing.assert_array_equal(vectors.vectors, run.model.output.word_matrix().detach().numpy())


@pytest.mark.parametrize("name", ["adaptive", "clusters"])
def test_a_layer_without_a_matrix_of_words_says_so(
    name: str, trained: Callable[[str], fixlm.Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["export", str(trained(name).directory.path), str(tmp_path)]) == 0
    assert "the output layer of this run has no single matrix of words" in capsys.readouterr().out
    assert not (tmp_path / "output_vectors.txt").exists()
    assert "There is no `output_vectors.txt`" in (tmp_path / "README.md").read_text()


def test_the_card_has_the_figures_of_the_run_and_its_program_runs(run: fixlm.Run, tmp_path: Path) -> None:
    run.export(tmp_path / "a")
    card = ModelCard.load(tmp_path / "a" / "README.md")
    result = run.directory.read_result()
    assert result is not None
    assert card.data.library_name == "fixlm"
    found = {each.dataset_split: each.metric_value for each in card.data.eval_results}
    assert found == {split: result[split]["perplexity"] for split in ("valid", "test")}
    scores = [part["test"]["perplexity"] for part in (result, result["unigram"])]
    assert f"| test | {scores[0]:,.2f} | {scores[1]:,.2f} |" in card.text
    program, gensim = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    text = program.replace("FOLDER", str(tmp_path / "a")).replace(
        'load("', f'load(data="{run.config["data"]["data"]}", path="'
    )
    exec(text.replace("the king of the united kingdom", "the cat").replace("the history of", "the"))
    exec(gensim.replace("output_vectors.txt", str(tmp_path / "a" / "output_vectors.txt")))


def test_a_perplexity_that_overflowed_stands_on_the_card(run: fixlm.Run) -> None:
    result = run.directory.read_result()
    assert result is not None
    result["test"] |= {"perplexity": None}  # as JSON has it
    card = model_card("a", run.config, result, None, "vectors.txt")
    assert "| test | inf |" in card


def test_weights_that_are_not_the_best_have_no_figures(run: fixlm.Run, tmp_path: Path) -> None:
    with torch.no_grad():
        changed = fixlm.load(run.directory.path)
        changed.model.output.bias[0] += 1
    assert "result.json" not in changed.export(tmp_path)
    assert "was not measured" in (tmp_path / "README.md").read_text()
    assert fixlm.load(tmp_path).score("the cat").nats.tolist() == changed.score("the cat").nats.tolist()


def test_where_the_corpus_lay_is_not_told(run: fixlm.Run, tmp_path: Path, tiny_corpus: Path) -> None:
    run.export(tmp_path)
    for name in ("config.json", "README.md", "result.json"):
        assert str(tiny_corpus) not in (tmp_path / name).read_text()
    with pytest.raises(InputError, match=r"it names the corpus ./tiny\d*, which is not there"):
        fixlm.load(tmp_path).perplexity()


def test_a_folder_with_something_else_is_refused_and_left_alone(run: fixlm.Run, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "README.md").write_text("mine")
    shutil.copytree(run.directory.path, tmp_path / "run")
    before = (tmp_path / "run" / "config.json").read_bytes()
    for folder, message in (
        (tmp_path / "notes", "the folder is not empty, and is no run that was exported"),
        (tmp_path / "notes" / "README.md", "is a file"),
        (tmp_path / "run", "the folder is not empty"),
        (run.directory.path, "the run would be written over itself"),
    ):
        with pytest.raises(InputError, match=message):
            run.export(folder)
        with pytest.raises(InputError, match=message):
            fixlm.HubRun.from_pretrained(run.directory.path).save_pretrained(folder)
    assert (tmp_path / "notes" / "README.md").read_text() == "mine"
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_an_older_export_is_replaced_and_other_files_stay(
    trained: Callable[[str], fixlm.Run], run: fixlm.Run, tmp_path: Path
) -> None:
    trained("walsh").export(tmp_path)
    (tmp_path / "LICENSE").write_text("mine")
    files = run.export(tmp_path, vectors=False)
    assert {path.name for path in tmp_path.iterdir()} == {*files, "LICENSE"}
    assert not {"output_matrix.safetensors", "output_vectors.txt"} & {*files}
    assert fixlm.load(tmp_path).score("the").nats == run.score("the").nats


def test_changed_weights_and_what_an_export_cannot_do_are_named(
    run: fixlm.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run.export(tmp_path)
    for arguments, message in (
        (["evaluate", str(tmp_path), "--checkpoint", "last"], "has no checkpoint 'last', since it was exported"),
        (["train", "--resume", "--run", str(tmp_path)], "an exported run has no state of the training"),
        (["export", str(tmp_path), str(tmp_path / "b"), "--private"], "--private: nothing is uploaded"),
    ):
        assert cli.main(arguments) == 2
        assert message in capsys.readouterr().err
    weights = bytearray((tmp_path / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    with pytest.raises(InputError, match=r"model.safetensors: not the weights that were exported"):
        fixlm.load(tmp_path)


@pytest.mark.parametrize("value", [None, 3, {}, {"model_sha256": 3}])
def test_a_wrong_mark_of_an_export_is_an_error_of_the_configuration(value: Any, run: fixlm.Run, tmp_path: Path) -> None:
    run.export(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "export": value}))
    with pytest.raises(InputError, match=r"config.json: not the configuration of a run"):
        fixlm.load(tmp_path)


class Hub:
    """A stand-in for the client of the hub: keeps what is uploaded."""

    endpoint = "https://hub"

    def __init__(self, token: str | None = None) -> None:
        pass

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> Any:
        if repo_id == "me/forbidden":
            raise LookupError("403 Forbidden\nrequest 7")  # not an OSError: neither are those of a network library
        Hub.private = private
        return type("Repository", (), {"repo_id": repo_id})

    def upload_folder(self, *, repo_id: str, folder_path: Path, **options: Any) -> str:
        Hub.files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
        Hub.removed = options["delete_patterns"]
        return f"https://hub/{repo_id}"


def test_a_model_that_was_turned_to_another_type_is_exported_in_float32(run: fixlm.Run, tmp_path: Path) -> None:
    turned = fixlm.load(run.directory.path)
    turned.model.bfloat16()
    assert "result.json" not in turned.export(tmp_path / "a")  # its weights are not those that were scored
    weight = fixlm.load(tmp_path / "a").model.input_embedding.weight
    assert torch.equal(weight, run.model.input_embedding.weight.bfloat16().float())


def test_a_tokenizer_of_another_run_is_not_read(run: fixlm.Run, tmp_path: Path) -> None:
    run.export(tmp_path / "a")
    (tmp_path / "a" / "tokenizer.model").write_bytes(b"of an older export")
    stale = fixlm.load(tmp_path / "a", data=run.config["data"]["data"])
    assert stale.score("the cat").words == ["the", "cat"]
    assert stale.perplexity("valid") == run.perplexity("valid")


@pytest.fixture
def logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "HfApi", Hub)
    monkeypatch.setattr(huggingface_hub.hub_mixin, "HfApi", Hub)
    monkeypatch.setattr(hub, "get_token", lambda: "hf_token")


def test_push_needs_a_login_before_anything_is_written(
    run: fixlm.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hub, "get_token", lambda: None)
    assert cli.main(["export", str(run.directory.path), str(tmp_path / "a"), "--push", "me/model"]) == 2
    expected = "--push me/model: you are not logged in to the Hugging Face hub. Fix: hf auth login\n"
    assert capsys.readouterr().err == f"fixlm: error: {expected}"
    assert not (tmp_path / "a").exists()


@pytest.mark.usefixtures("logged_in")
def test_push_uploads_the_folder(run: fixlm.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["export", str(run.directory.path), str(tmp_path / "a"), "--private", "--push"]
    assert cli.main([*command, "me/model"]) == 0
    assert capsys.readouterr().out.endswith("https://hub/me/model\n")
    assert Hub.private is True
    assert Hub.files == {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert {"tokenizer.model", "output_vectors.txt", "result.json"} <= {*Hub.removed}  # of an older export
    assert cli.main([*command, "me/forbidden"]) == 2
    assert (
        "--push me/forbidden: could not be uploaded (found LookupError: 403 Forbidden). Fix: "
        in capsys.readouterr().err
    )


@pytest.mark.usefixtures("logged_in")
def test_what_the_mixin_pushes_comes_back_from_the_hub(
    run: fixlm.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_corpus: Path
) -> None:
    shared = fixlm.HubRun.from_pretrained(run.directory.path)
    assert isinstance(shared, huggingface_hub.ModelHubMixin)
    assert (
        shared.save_pretrained(tmp_path / "a", push_to_hub=True, repo_id="me/model", private=False)
        == "https://hub/me/model"
    )

    def download(repo_id: str, *, local_dir: Path, **options: Any) -> str:
        if repo_id != "me/model":
            raise OSError("404 Not Found")
        local_dir.mkdir(parents=True)
        for name, content in Hub.files.items():
            (local_dir / name).write_bytes(content)
        return str(local_dir)

    monkeypatch.setattr(hub, "snapshot_download", download)
    again = fixlm.HubRun.from_pretrained("me/model", cache_dir=tmp_path / "cache", data=str(tiny_corpus))
    assert again.perplexity() == run.perplexity()
    with pytest.raises(
        InputError, match=r"me/other: no such folder, and not to be had from the hub .found OSError: 404"
    ):
        fixlm.HubRun.from_pretrained("me/other")
