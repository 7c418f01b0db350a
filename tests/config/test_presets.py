"""Presets, and that each flag they set acts on training."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import final, losses, same, train
from safetensors.torch import load_file

from fixlm import cli
from fixlm.config.presets import PRESETS, as_flags
from fixlm.config.read import read_config
from fixlm.config.schema import GROUPS
from fixlm.config.train_config import TrainConfig
from fixlm.runs.default_path import default_path
from fixlm.train import make_parser
from fixlm.training import trainer
from fixlm.training.optimizer import learning_rate, make_optimizer

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
AWD_MODEL = {
    "num_layers": 3,
    "hidden_size": 1150,
    "last_hidden_size": 400,
    "embed_size": 400,
    "dropout_input": 0.65,
    "dropout_between": 0.2,
    "dropout_output": 0.4,
    "dropout_embedding": 0.1,
    "weight_drop": 0.5,
}
AWD_OPTIMIZATION = {
    "recipe": "awd",
    "epochs": 750,
    "batch_size": 80,
    "bptt": 70,
    "vary_bptt": True,
    "optimizer": "sgd",
    "lr": 30,
    "schedule": "constant",
    "warmup_steps": 0,
    "clip": 0.25,
    "weight_decay": 1.2e-6,
    "ar": 2,
    "tar": 1,
    "average": "nt-asgd",
    "nonmono": 5,
}


def differing(config: TrainConfig) -> dict[str, dict[str, Any]]:
    """Each value that is not the default, by group."""
    defaults = TrainConfig().to_json()
    return {
        group: {name: now for name, now in values.items() if now != defaults[group][name]}
        for group, values in config.to_json().items()
        if group in GROUPS
    }


def test_awd_has_the_values_of_merity_keskar_and_socher_and_no_others() -> None:
    expected = {key: value for key, value in AWD_OPTIMIZATION.items() if key not in ("bptt", "nonmono")}
    config = read_config({"recipe": "awd"})
    assert differing(config) == {"data": {}, "model": AWD_MODEL, "optimization": expected}
    assert (config.optimization.bptt, config.optimization.nonmono) == (70, 5)  # as by default


def test_fast_is_the_default_and_changes_nothing() -> None:
    assert differing(read_config({"recipe": "fast"})) == {"data": {}, "model": {}, "optimization": {}}
    assert read_config({}) == read_config({"recipe": "fast"})


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_what_its_flags_would_be_on_a_command_line(name: str) -> None:
    given = vars(make_parser().parse_args(shlex.split(as_flags(name))))
    assert without_name(read_config({"preset": name})) == without_name(read_config(given))


def test_a_preset_may_choose_the_output_layer_and_set_its_options() -> None:
    """A flag that is given wins."""
    by_preset = read_config({"preset": "speedrun-100"})
    assert by_preset.to_json()["model"]["tail_clusters"] == PRESETS["speedrun-100"]["tail_clusters"]
    assert "cca" in by_preset.matrices
    assert by_preset.run.ngram_order == PRESETS["speedrun-100"]["ngram_order"]
    own = read_config({"preset": "speedrun-100", "cca-lags": "1,5", "learned-words": "9", "normalize": True})
    assert (own.matrices["cca"].lags, own.output.learned_words, own.output.normalize) == ("1,5", 9, True)  # type: ignore[attr-defined]
    other = read_config({"preset": "speedrun-100", "output-embed": "tied"})  # which has none of these options
    assert (other.model.output_embed, other.optimization.lr) == ("tied", PRESETS["speedrun-100"]["lr"])


def without_name(config: TrainConfig) -> dict[str, Any]:
    values = config.to_json()
    del values["optimization"]["recipe"]
    return values


@pytest.mark.parametrize(
    ("layer", "flags"),
    [
        ("pmi", {"pmi-discount": "0", "pmi-window": "5", "pmi-context": "symmetric", "cross-fit": "0"}),
        ("walsh", {"walsh-pmi-discount": "0", "walsh-pmi-dim": "200", "walsh-basis": "codes"}),
    ],
)
def test_a_run_that_is_older_than_a_flag_has_what_was_done_then(layer: str, flags: dict[str, str]) -> None:
    # Made when there were no recipes and no folds, one basis of walsh, and no discount of PMI, which today is 1.
    stored = json.loads((Path(__file__).parent / f"old-{layer}-config.json").read_text())
    given = {"data": stored["data"]["data"], "hidden-size": "256", "embed-size": "256"}
    given |= {"output-embed": layer, "lr": "0.003", "dropout": "0.2", **flags}
    assert TrainConfig.from_json(stored).to_json() == read_config(given).to_json()


@pytest.mark.parametrize(
    ("given", "group", "expected"),
    [
        ({"lr": "3"}, "optimization", {"lr": 3.0}),
        ({"vary-bptt": False, "average": "none"}, "optimization", {"vary_bptt": False, "average": "none"}),
        ({"embed-size": "24"}, "model", {"embed_size": 24, "last_hidden_size": 24}),
        ({"embed-size": "24", "last-hidden-size": "none"}, "model", {"embed_size": 24, "last_hidden_size": None}),
        ({"hidden-size": "24"}, "model", {"hidden_size": 24, "last_hidden_size": 400}),
        ({"weight-drop": "0"}, "model", {"weight_drop": 0.0}),
        (
            {"dropout": "0.1", "dropout-output": "0.3"},
            "model",
            {"dropout_input": 0.1, "dropout_between": 0.1, "dropout_output": 0.3, "dropout_embedding": 0.1},
        ),
    ],
)  # fmt: skip
def test_a_flag_that_is_given_wins_over_the_recipe(given: dict[str, Any], group: str, expected: dict[str, Any]) -> None:
    part = getattr(read_config({"recipe": "awd", **given}), group)
    assert {name: getattr(part, name) for name in expected} == expected


def test_the_help_shows_what_the_recipe_sets(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert [name for name in PRESETS if as_flags(name) not in shown] == []


def test_the_table_in_the_readme_is_the_recipes() -> None:
    rows = re.findall(
        r"^\| `--([\w-]+)` \| .* \| (.*) \| (.*) \|$", PAGE.partition("## Presets")[2].partition("\n## ")[0], re.M
    )
    values = {True: "yes", False: "no", None: "none"}
    assert {row[0].replace("-", "_") for row in rows} == {*PRESETS["awd"], "dropout"}
    for column, recipe in ((1, "fast"), (2, "awd")):
        config = read_config({"recipe": recipe})
        settings = vars(config.model) | vars(config.optimization)
        for row in rows:
            value = settings[row[0].replace("-", "_")]
            shown = values[value] if value is None or isinstance(value, bool) else value
            shown = f"{shown:g}" if isinstance(shown, float) else str(shown)
            assert row[column] == shown or (row[0], recipe) == ("dropout", "awd"), row


def test_the_default_run_directory_names_the_recipe_and_the_fine_tuning() -> None:
    for given, expected in (
        ({}, "sample-pmi-512-seed1"),
        ({"recipe": "awd"}, "sample-pmi-1150-awd-seed1"),
        ({"recipe": "awd", "fine-tune": "x"}, "sample-pmi-1150-awd-seed1-fine-tuned"),
    ):
        assert default_path(read_config(given), "sample") == Path("runs") / expected


# --- each flag acts --------------------------------------------------------------------------------------------

ACTING = [
    "--weight-drop 0.5",
    "--dropout-embedding 0.5",
    "--ar 2",
    "--tar 1",
    "--vary-bptt",
    "--optimizer sgd",
    "--schedule constant",
    "--num-layers 3",
    "--last-hidden-size 24",
    "--average ema",
]


@pytest.mark.slow
def test_each_flag_acts(small: list[str], tmp_path: Path) -> None:
    flags = [*small, "--output-embed", "hadamard", "--max-steps", "12", "--run"]
    ends = []
    for number, more in enumerate(["", *ACTING]):
        assert train(*flags, str(tmp_path / str(number)), *more.split()) == 0
        ends.append(final(tmp_path / str(number)))
        for other, end in zip(["", *ACTING], ends[:-1], strict=False):
            assert not same(ends[-1], end), (more, other)


def test_the_loss_that_is_recorded_has_no_penalties_in_it(small: list[str], tmp_path: Path) -> None:
    for name, more in (("plain", ""), ("penalised", "--ar 1000 --tar 1000")):
        flags = f"--output-embed tied --lr 1e-30 --max-steps 10 --run {tmp_path / name} {more}"
        assert train(*small, *flags.split()) == 0
    assert losses(tmp_path / "plain") == losses(tmp_path / "penalised")  # of weights that stay where they are


def test_a_step_of_a_shorter_window_has_a_lower_rate(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = trainer.take_gradients

    def look(model: Any, optimizer: torch.optim.Optimizer, ids: torch.Tensor, *rest: Any, **named: Any) -> Any:
        seen.append((len(ids) - 1, {group["lr"] for group in optimizer.param_groups}))
        return real(model, optimizer, ids, *rest, **named)

    monkeypatch.setattr(trainer, "take_gradients", look)
    flags = f"--output-embed tied --vary-bptt --bptt 20 --run {tmp_path / 'run'}"
    assert train(*small, *flags.split()) == 0
    settings = read_config({"output-embed": "tied", "max-steps": "24"}).optimization
    assert len({length for length, _ in seen}) > 5
    for step, (length, (rate,)) in enumerate(seen):
        assert rate == pytest.approx(learning_rate(step, 24, settings) * length / 20)


def test_a_constant_rate_stays_after_its_warm_up() -> None:
    settings = read_config({"schedule": "constant", "warmup-steps": "10", "lr": "2"}).optimization
    rates = [learning_rate(step, 100, settings) for step in range(100)]
    assert rates[:2] == pytest.approx([0.2, 0.4])
    assert set(rates[9:]) == {2.0}


def test_sgd_goes_down_the_gradient_and_keeps_nothing(small: list[str], tmp_path: Path) -> None:
    settings = read_config({"optimizer": "sgd", "weight-decay": "0.1"}).optimization
    model = torch.nn.Linear(2, 2)
    before = {name: part.detach().clone() for name, part in model.named_parameters()}
    for part in model.parameters():
        part.grad = torch.ones_like(part)
    optimizer = make_optimizer(model, settings)
    for group in optimizer.param_groups:
        group["lr"] = 0.5
    optimizer.step()
    torch.testing.assert_close(model.weight, before["weight"] - 0.5 * (1 + 0.1 * before["weight"]))
    torch.testing.assert_close(model.bias, before["bias"] - 0.5)
    assert train(*small, "--optimizer", "sgd", "--output-embed", "tied", "--run", str(tmp_path / "run")) == 0
    assert set(load_file(tmp_path / "run/checkpoints/last/training.safetensors")) == {
        "lstm.hidden", "lstm.cell", "random_state",
    }  # fmt: skip


def test_tokens_are_counted_as_they_were_read(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    real = trainer.take_gradients
    monkeypatch.setattr(
        trainer, "take_gradients", lambda *a, **named: read.append(a[2][1:].numel()) or real(*a, **named)
    )
    # Both figures are rounded, and real steps of so small a run take some ms.
    monkeypatch.setattr(trainer.time, "perf_counter", itertools.count().__next__)
    run = tmp_path / "run"
    assert train(*small, "--output-embed", "tied", "--vary-bptt", "--run", str(run)) == 0
    result = json.loads((run / "result.json").read_text())
    assert result["tokens_per_second"] * result["seconds"] == pytest.approx(sum(read), rel=0.01)


# --- runs of before ---------------------------------------------------------------------------------------------


def test_a_run_of_before_a_setting_was_there_is_read_evaluated_resumed_and_finished(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    flags = [*small, "--output-embed", "hadamard", "--run", str(run)]
    assert train(*flags) == 0
    before = final(run)
    stored = json.loads((run / "config.json").read_text())
    for group, names in (("model", AWD_MODEL), ("optimization", AWD_OPTIMIZATION)):
        for name in set(names) - {"hidden_size", "embed_size", "batch_size", "bptt", "epochs"}:
            del stored[group][name]
    for name in ("fine_tune", "ema_decay", "patience"):
        del stored["optimization"][name]
    del stored["run"]["ngram_order"]
    (run / "config.json").write_text(json.dumps(stored))
    assert train(*flags) == 0
    assert "is finished already" in capsys.readouterr().err
    assert cli.main(["evaluate", str(run)]) == 0
    state = run / "checkpoints/last/state.json"
    old = {k: v for k, v in json.loads(state.read_text()).items() if k not in ("validations", "average_start")}
    from fixlm.runs import checkpoint

    saved = checkpoint.verify(state.parent.resolve())
    checkpoint.save(run / "checkpoints", 24, saved.model(), saved.training(), old, best=False)
    (run / "result.json").unlink()
    assert train("--resume", "--run", str(run), "--recipe", "fast", "--output-embed", "hadamard") == 0
    assert same(before, final(run))
    # An earlier checkpoint, so that there is something left to train.
    (run / "result.json").unlink()
    shutil.rmtree(run / "checkpoints/step-24")
    assert train("--resume", "--run", str(run)) == 0
    assert same(before, final(run))
