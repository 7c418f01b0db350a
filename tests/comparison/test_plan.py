"""Plans: what a grid of flags or a file describes, before anything is trained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fixlm.comparison.grid import read_grid
from fixlm.comparison.plan import read_plan
from fixlm.errors import InputError


def test_paths_that_end_alike_are_settings_of_their_own(tmp_path: Path) -> None:
    plan = read_grid({"data": f"{tmp_path}/a/text,{tmp_path}/b/text", "output-embed": "a/v.txt,b/v.txt,tied"})
    assert len(plan.settings) == 6
    assert len({setting.name for setting in plan.settings}) == len({setting.folder for setting in plan.settings}) == 6
    assert [each.name for each in read_grid({"output-embed": "a/v.txt,b/w.txt"}).settings] == ["v.txt", "w.txt"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = [1, 2]", "unknown key 'seed'. Fix: Did you mean 'seeds'?"),
        ("[comon]\nlr = 0.1", "unknown key 'comon'. Fix: Did you mean 'common'?"),
        ("seeds = 3", "not a plan"),
        ("", "one: two settings have this name. Fix: another name for one of them"),
        ("", "one: a folder that is no plain name (found '../b')"),
        ("", "one: no seed, so that it has no run. Fix: remove the setting"),
    ],
)
def test_a_plan_that_says_what_nobody_reads_is_refused(text: str, message: str, tmp_path: Path) -> None:
    settings = '[[settings]]\nname = "one"\nfolder = "{}"\nflags = { output-embed = "tied" }\n'
    both = settings.replace("{}", "a", 1) + settings.replace("{}", "../b", 1) + "seeds = []\n"
    (tmp_path / "plan.toml").write_text(f"{text}\n{both}")
    with pytest.raises(InputError, match=re.escape(message)) as error:
        read_plan(tmp_path / "plan.toml").runs(tmp_path)
    assert "InputError" not in str(error.value)


def test_a_plan_may_use_any_name_of_a_flag(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text('[[settings]]\nname = "one"\nflags = { preset = "awd", hidden_size = 8 }\n')
    (run,) = read_plan(tmp_path / "plan.toml").runs(tmp_path)
    assert run.config is not None
    assert (run.config.optimization.recipe, run.config.model.hidden_size) == ("awd", 8)


def test_the_flags_of_a_matrix_apply_where_a_preset_builds_it() -> None:
    flags = {"preset": "speedrun-100", "output-embed": "tied,cca", "cca-lags": r"1\,5"}
    for run in read_grid(flags).runs(Path("grid")):  # the input of tied starts at cca, by the preset
        assert run.config is not None
        assert run.config.matrices["cca"].lags == "1,5"
