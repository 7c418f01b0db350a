"""Every page says what it is for, in short sentences; its links lead somewhere and its commands and programs run."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import random
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from pages import PAGES, README, ROOT, code_blocks, commands, inline_commands, sentences
from torch.distributed.run import get_args_parser

from fixlm import cli
from fixlm.comparison.plan import read_plan
from fixlm.config.read import by_flag, read_config
from fixlm.train import make_parser

MOST_WORDS = 30
SMALL = shlex.split("--batch-size 4 --bptt 10 --max-steps 2 --threads 1")
BENCHMARK = shlex.split("--quick --rounds 1 --vocabulary-size 300 --hidden-size 16 --batch-size 4 --bptt 5 --threads 1")
ADAPTIVE = shlex.split("--adaptive-cutoffs 5,20 --adaptive-divisor 2")
CORPORA = ("sample", "wikitext-2", "wikitext-103")
SIZES = {
    "512": "32", "256": "16", "64": "8", "100": "8", "8000": "280", "1024": "16", "2000": "16", "4096": "16",
    "8192": "16", "650": "16",
}  # fmt: skip
KNOWN = (
    "python -m fixlm.train ",
    "python -m fixlm.evaluate ",
    "python -m fixlm.compare ",
    "python -m fixlm.generate ",
    "python -m fixlm.score ",
    "python -m fixlm.export ",
    "python -m fixlm.harness ",
    "python scripts/",
    "torchrun --nproc-per-node 2 -m fixlm.train ",
    "torchrun --nproc-per-node 2 -m -- fixlm.train ",
    "torchrun --nproc-per-node 2 scripts/",
)
TARGETS = ("make train", "make test", "make quick", "pip install --constraint constraints.txt --editable .",
    "pip install --editable '.[harness]'")  # fmt: skip
ORDER = [
    "README.md", "docs/training.md", "docs/layers.md", "docs/comparing.md",
    *(page for page in PAGES if page not in ("README.md", "docs/training.md", "docs/layers.md", "docs/comparing.md")),
]  # fmt: skip
"""Pages in an order in which a command finds what an earlier one made."""


@pytest.mark.parametrize("page", PAGES)
def test_sentences_are_short(page: str) -> None:
    long = [text for text in sentences(PAGES[page]) if len(text.split()) > MOST_WORDS]
    assert long == []


@pytest.mark.parametrize("page", [page for page in PAGES if page != "README.md"])
def test_a_page_opens_with_what_it_is_for(page: str) -> None:
    title, _, rest = PAGES[page].partition("\n\n")
    assert title.startswith("# ")
    assert rest.startswith("This page is for people who ")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    place = (ROOT / page).parent
    for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        address, _, heading = link.partition("#")
        if address.startswith("http"):
            continue
        target = place / address if address else ROOT / page
        assert target.exists(), link
        if heading:
            assert heading in headings(target.read_text(encoding="utf-8")), link


def headings(text: str) -> list[str]:
    """The names that GitHub gives to the headings of a page."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


def test_every_page_is_linked_from_the_readme() -> None:
    assert [page for page in PAGES if page != "README.md" and f"({page})" not in README] == []


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_of_programs_that_are_there(page: str) -> None:
    for command in [*commands(page), *inline_commands(page)]:
        assert f"{command} ".startswith((*KNOWN, "python -m pytest ", "python -m fixlm.train", *TARGETS)), command
        for script in re.findall(r"\bscripts/[\w/.]+", command):
            assert (ROOT / script).exists(), command


@pytest.mark.parametrize("page", PAGES)
def test_flags_that_a_page_names_exist(page: str, known_flags: set[str]) -> None:
    assert {*re.findall(r"(?<![\w-])--[a-z][\w-]*", PAGES[page])} - known_flags == set()


@pytest.fixture(scope="module")
def known_flags() -> set[str]:
    """Of the commands and of the programs under scripts/, as their own text has them."""
    help_of = io.StringIO()
    for command in ("train", "evaluate", "generate", "score", "export", "harness", "compare"):
        with contextlib.redirect_stdout(help_of), contextlib.suppress(SystemExit):
            cli.main([command, "--help"])
    flags = {*re.findall(r"--[a-z][\w-]*", help_of.getvalue())}
    for script in (ROOT / "scripts").rglob("*.py"):
        flags |= {f"--{name.replace('_', '-')}" for name in re.findall(r"^    (\w+): .*=", script.read_text(), re.M)}
        flags |= {*re.findall(r'"(--[a-z-]+)"', script.read_text())}
    torchrun = get_args_parser()._option_string_actions  # and what a script for Slurm asks for
    flags |= {*torchrun, "--nodes", "--ntasks-per-node", "--cpus-per-task"}
    of_methods = {f"--{flag.split('-', 3)[3]}" for flag in flags if flag.count("-") > 2}  # scripts/build_embeddings.py
    return flags | of_methods | {"--constraint", "--editable"}


@pytest.mark.parametrize(
    "path",
    sorted({path for text in PAGES.values() for path in re.findall(
        r"`((?:fixlm|embeddings|tests|results|docs|scripts)/[\w./-]*)`", text
    )}),
)  # fmt: skip
def test_files_that_a_page_names_exist(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A directory with small corpora under the names that the pages have for the real ones."""
    draw = random.Random(8)
    for name in CORPORA:
        (tmp_path / "corpora" / name).mkdir(parents=True)
        for split, lines in (("train", 400), ("valid", 20), ("test", 20)):
            text = "\n".join(" ".join(f"w{draw.randrange(60)}" for _ in range(12)) for _ in range(lines))
            (tmp_path / "corpora" / name / f"{split}.txt").write_text(f"{text}\nthe history of")
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    (tmp_path / "alpha.toml").write_text(plan(), encoding="utf-8")
    (tmp_path / "story.txt").write_text("w1 w2 the history\n", encoding="utf-8")
    return tmp_path


def plan() -> str:
    (block,) = code_blocks("docs/comparing.md", "toml")
    return block


def run(command: str) -> None:
    """Runs the same command, smaller: other corpora under the same names, small sizes, two steps of training."""
    words = [f"corpora/{word}" if word in CORPORA else word for word in shlex.split(command)]
    words = [SIZES.get(word, word).replace("-512-", "-32-").replace("-256-", "-16-") for word in words]
    if words[:2] == ["python", "-m"]:  # in this process, which has imported torch already
        name = words[2].removeprefix("fixlm.")
        if name == "harness" and importlib.util.find_spec("lm_eval") is None:
            return
        if name == "train" and "--resume" not in words:
            words += SMALL if "--hidden-size" in words else [*SMALL, "--hidden-size", "32", "--embed-size", "32"]
            words = with_a_run_of_its_own(words)
        if name == "compare":  # one grid to begin with, which the others go on with
            words += [*SMALL, "--hidden-size", "16", "--embed-size", "16"] if "--data" in words else []
            words += ["--walsh-families", "16"] if "walsh" in command and "--data" in words else []
        assert cli.main([name, *words[3:]]) == 0, command
    elif words[0] == "torchrun":
        words += [] if "--resume" in words else SMALL
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", *words[1:]], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (command, done.stderr)
    else:
        words += {"scripts/benchmark.py": BENCHMARK, "scripts/speedrun.py": ["--max-steps", "2"]}.get(words[1], [])
        if any(word.startswith("speedrun-") for word in words):  # whose sizes are those of a large vocabulary
            words += [*SMALL, "--hidden-size", "16", "--embed-size", "16"]
            words += ADAPTIVE if "adaptive" in words else ["--learned-words", "16", "--tail-clusters", "2"]
        done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stderr)


def with_a_run_of_its_own(words: list[str]) -> list[str]:
    """A page may give two commands whose runs have one name; a reader takes one of them."""
    size = words[words.index("--hidden-size") + 1]
    data = Path(words[words.index("--data") + 1]).name
    name = f"runs/{data}-{words[words.index('--output-embed') + 1]}-{size}-seed1"
    if "--run" in words or not Path(name).exists():
        return words
    return [*words, "--run", f"{name}-{len(list(Path('runs').iterdir()))}"]


@pytest.mark.slow
def test_every_command_runs_in_order(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    for page in ORDER:
        for command in commands(page):
            if not command.startswith(TARGETS):
                run(command)


@pytest.mark.slow
def test_the_matrix_in_20_lines_trains(tiny_corpus: Path, tmp_path: Path) -> None:
    (program,) = [block for block in code_blocks("docs/layers.md", "python") if "class RandomSigns" in block]
    (tmp_path / "program.py").write_text(program)
    flags = [*SMALL, "--hidden-size", "8", "--embed-size", "8", "--random-signs-density", "0.9"]
    command = [sys.executable, "program.py", "--data", str(tiny_corpus), *flags]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "perplexity per word" in done.stdout


@pytest.mark.slow
def test_the_python_of_the_library_page_runs_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in code_blocks("docs/library.md", "python"):
        exec(compile(block, "docs/library.md", "exec"), names)


@pytest.mark.slow
def test_the_plan_in_15_lines_compares(tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "alpha.toml").write_text(plan(), encoding="utf-8")
    flags = [*SMALL, "--hidden-size", "8", "--embed-size", "8", "--seed", "1", "--data", str(tiny_corpus)]
    plan_flag = f"--plan={tmp_path / 'alpha.toml'}"
    assert cli.main(["compare", str(tmp_path / "here"), plan_flag, *flags]) == 0
    assert "| [pmi, α = 1](pmi-alpha1-seed1) |" in capsys.readouterr().out


def test_the_commands_of_the_five_layers_are_those_of_their_study() -> None:
    """But for the precision and how often they validate, which change little and nothing."""
    given = [shlex.split(command)[3:] for command in commands("docs/training.md") if "--epochs 2" in command]
    shown = {}
    for words in given[:5]:
        flags = vars(make_parser("p").parse_args(words))
        shown[flags["output-embed"]] = by_flag(read_config(flags).to_json())
    settings = read_plan(ROOT / "scripts" / "studies" / "five-layers.toml").runs(ROOT / "runs")
    for setting in settings:
        assert setting.config is not None
        planned = by_flag(setting.config.to_json()) | {"--precision": "float32"}
        assert shown[setting.config.model.output_embed] == planned
