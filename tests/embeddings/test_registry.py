"""Methods by name, and matrices from the cache."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pmi_reference import zipf_text

import embeddings
from embeddings import CorpusStatistics, InputError, OutputMatrix, builder, registry
from embeddings.options import kinds

BUILT_IN = ["random-orthogonal", "hadamard", "sylvester", "word2vec", "pmi", "pmi-signs", "cca", "walsh", "pretrained"]


def words(*names: str) -> CorpusStatistics:
    return CorpusStatistics(names, np.ones(len(names), dtype=np.int64))


@dataclasses.dataclass(frozen=True)
class ScaleOptions:
    scale: float = dataclasses.field(default=1.0, metadata={"help": "of the diagonal"})


class Diagonal:
    """A third-party method that counts how often it is asked to build."""

    SUMMARY = "the unit matrix"
    NEEDS_CORPUS = False
    Options = ScaleOptions

    def __init__(self) -> None:
        self.built = 0
        self.row = 1.0

    def build(self, statistics, dim, seed, options, progress) -> np.ndarray:
        self.built += 1
        matrix = np.eye(len(statistics), dim) * options.scale
        matrix[0] *= self.row
        return matrix


@pytest.fixture
def diagonal(monkeypatch: pytest.MonkeyPatch) -> Diagonal:
    method = Diagonal()
    registry.names()  # reads the real entry points first
    monkeypatch.setattr(registry, "_methods", dict(registry._methods))
    embeddings.register("diagonal", method)
    return method


def test_built_in_methods_come_first() -> None:
    assert embeddings.names()[: len(BUILT_IN)] == BUILT_IN


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_method_can_be_turned_into_flags(name: str) -> None:
    """The command line is built from this: frozen options with a help text each, simple types, valid choices."""
    method = embeddings.get(name)
    assert method.SUMMARY
    assert isinstance(method.NEEDS_CORPUS, bool)
    options = method.Options()
    for option in dataclasses.fields(options):
        assert option.metadata["help"]
        kind = kinds(method.Options)[option.name]
        assert kind.type in (bool, int, float, str)
        assert not kind.choices or getattr(options, option.name) in kind.choices
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(options, option.name, None)


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match=r"--output-embed: unknown output matrix 'pmj'\. Fix: Did you mean 'pmi'\?"):
        embeddings.get("pmj", "--output-embed")


def test_looking_at_names_imports_no_method() -> None:
    program = "import sys, embeddings; embeddings.names(); print(*sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert not {"scipy", "gensim", "torch", "fixlm", "embeddings.methods.pmi"} & set(modules.split())


@pytest.mark.parametrize("name", ["pmi", "word2vec"])
def test_importing_a_method_imports_no_heavy_library(name: str) -> None:
    program = f"import sys, embeddings; embeddings.get('{name}').Options(); print(*sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert not {"scipy", "gensim", "torch"} & set(modules.split())


def test_a_registered_method_builds(diagonal: Diagonal) -> None:
    matrix = embeddings.build("diagonal", words("a", "b"), 2, options=ScaleOptions(scale=3.0))
    np.testing.assert_array_equal(matrix.vectors, np.eye(2, dtype=np.float32))
    assert matrix.recipe["options"] == {"scale": 3.0}
    assert "diagonal" in embeddings.names()
    with pytest.raises(ValueError, match="'diagonal' is registered already"):
        embeddings.register("diagonal", diagonal)


def test_an_entry_point_adds_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(THEIRS=Diagonal())
    monkeypatch.setitem(sys.modules, "their_package", module)
    entry = EntryPoint("theirs", "their_package:THEIRS", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "_methods", dict(registry._methods))
    monkeypatch.setattr(registry, "_entry_points_read", False)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry] if group == entry.group else [])
    assert embeddings.names()[-1] == "theirs"
    assert embeddings.build("theirs", words("a", "b"), 2).vectors.shape == (2, 2)


@pytest.mark.parametrize(("value", "message"), [(0.0, "rows of zeros .found 1 of 2"), (np.nan, "not finite")])
def test_unusable_rows_are_errors(diagonal: Diagonal, value: float, message: str) -> None:
    diagonal.row = value
    with pytest.raises(InputError, match=message):
        embeddings.build("diagonal", words("a", "b"), 2)


def test_the_cache_builds_once(diagonal: Diagonal, tmp_path: Path) -> None:
    first, second = (
        embeddings.build_cached("diagonal", words("a", "b"), 2, directory=tmp_path / "cache") for _ in range(2)
    )
    assert diagonal.built == 1
    assert second.recipe == first.recipe
    np.testing.assert_array_equal(second.vectors, first.vectors)


@pytest.mark.parametrize(
    ("statistics", "dim", "seed", "options"),
    [
        (words("a", "c"), 2, 1, ScaleOptions()),
        (words("b", "a"), 2, 1, ScaleOptions()),
        (words("a", "b"), 3, 1, ScaleOptions()),
        (words("a", "b"), 2, 2, ScaleOptions()),
        (words("a", "b"), 2, 1, ScaleOptions(scale=2.0)),
    ],
)
def test_another_recipe_is_another_file(
    diagonal: Diagonal, tmp_path: Path, statistics: CorpusStatistics, dim: int, seed: int, options: ScaleOptions
) -> None:
    """Another word, order of words, dimension, seed, option: never the matrix that is there."""
    embeddings.build_cached("diagonal", words("a", "b"), 2, directory=tmp_path)
    embeddings.build_cached("diagonal", statistics, dim, seed, options, directory=tmp_path)
    assert diagonal.built == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_another_text_is_another_matrix(tmp_path: Path) -> None:
    ids = np.random.default_rng(1).integers(0, 20, 500)
    names = [f"w{i}" for i in range(20)]
    texts = [CorpusStatistics(names, np.bincount(i, minlength=20), i) for i in (ids, ids[::-1])]
    recipes = [embeddings.build_cached("pmi", text, 4, directory=tmp_path).recipe for text in texts]
    assert recipes[0]["corpus_sha256"] != recipes[1]["corpus_sha256"]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", ["truncated", "zeroed", "one bit", "empty"])
def test_a_damaged_file_is_built_anew(damage: str, diagonal: Diagonal, tmp_path: Path) -> None:
    whole = embeddings.build_cached("diagonal", words("a", "b"), 2, directory=tmp_path)
    (path,) = tmp_path.iterdir()
    good = path.read_bytes()
    flipped = bytearray(good)
    flipped[-2] ^= 1
    path.write_bytes(
        {"truncated": good[:-5], "zeroed": bytes(len(good)), "one bit": bytes(flipped), "empty": b""}[damage]
    )
    with pytest.raises(InputError):
        OutputMatrix.load(path)
    again = embeddings.build_cached("diagonal", words("a", "b"), 2, directory=tmp_path)
    assert diagonal.built == 2
    np.testing.assert_array_equal(again.vectors, whole.vectors)
    assert path.read_bytes() == good


def test_the_same_recipe_gives_the_same_bytes(tmp_path: Path) -> None:
    statistics = words("naïve", "<eos>", "new york")
    for name in ("one", "two"):
        embeddings.build("random-orthogonal", statistics, 4, seed=7).save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    loaded = OutputMatrix.load(tmp_path / "one")
    assert loaded.recipe["seed"] == 7
    assert not {"time", "path", "created"} & set(json.dumps(loaded.recipe).split('"'))


def test_a_dimension_below_one_is_an_error() -> None:
    with pytest.raises(InputError, match=r"dim: .*found 0, expected at least 1"):
        embeddings.build("hadamard", words("a", "b"), 0)


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name not in ("walsh", "pretrained")])
def test_a_method_that_needs_a_dimension_says_so(name: str) -> None:
    statistics = CorpusStatistics(["a", "b"], np.array([2, 1]), np.array([0, 1, 0]))
    with pytest.raises(InputError, match=f"dim: {name} needs a dimension"):
        embeddings.build(name, statistics, None)


def test_a_method_that_changed_is_built_anew(diagonal: Diagonal, tmp_path: Path) -> None:
    for version in (None, 2, 2):
        if version:
            diagonal.VERSION = version  # type: ignore[attr-defined]
        embeddings.build_cached("diagonal", words("a", "b"), 2, directory=tmp_path)
    assert diagonal.built == 2


def test_the_cache_tells_texts_apart_that_differ_in_counts_or_line_ends_alone(tmp_path: Path) -> None:
    text = zipf_text(40, 2000)
    others = [text, dataclasses.replace(text, end_of_line=None), dataclasses.replace(text, counts=text.counts + 1)]
    for each in [*others, *others]:
        embeddings.build_cached("pmi", each, 4, directory=tmp_path)
    assert len([*tmp_path.iterdir()]) == 3


def test_codes_by_frequency_follow_counts_that_do_not_fall(tmp_path: Path) -> None:
    text = zipf_text(40, 2000)
    options = embeddings.get("walsh").Options(families=16, positions="frequency")
    orders = [np.arange(40, 0, -1), np.arange(40)]
    found = [
        builder.prepare("walsh", dataclasses.replace(text, counts=counts), None, 1, options, directory=tmp_path)
        for counts in [*orders, orders[0]]
    ]
    assert found[0].slots.tolist() == found[2].slots.tolist() == [*range(40)]
    assert found[1].slots.tolist() == [*range(39, -1, -1)]
