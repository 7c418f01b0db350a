"""The notebook runs from start to end, on any output layer, with runs and without, and is kept without outputs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from helpers import train

pytestmark = pytest.mark.slow

NOTEBOOK = Path(__file__).parents[2] / "scripts" / "evaluate_perplexity.ipynb"
FLAGS = "--hidden-size 16 --embed-size 16 --batch-size 4 --bptt 10 --max-steps 24 --threads 1"


def execute(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: str) -> dict[str, Any]:
    """Runs the notebook in a folder; the outputs of each cell by its name."""
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    # The user's own profile and kernels have no say, and nothing is left in the home directory.
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(folder / name.lower()))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("import sys\nprint(sys.executable)", id="python"))
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    outputs = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    assert text(outputs["python"]).strip() == sys.executable
    warnings = [
        output.text
        for found in outputs.values()
        for output in found
        if output.get("name") == "stderr" and "arning:" in output.text
    ]
    assert warnings == []
    return outputs


def text(outputs: list[Any]) -> str:
    """All that a cell printed or returned as text."""
    return "".join(
        output.text if output.output_type == "stream" else output.data.get("text/plain", "")
        for output in outputs
        if output.get("name") != "stderr"
    )


def images(outputs: dict[str, Any]) -> list[str]:
    """The cells that drew something."""
    return [name for name, found in outputs.items() if any("image/png" in output.get("data", {}) for output in found)]


FIGURES = ["bands", "text", "map", "alpha"]


def test_without_a_run_it_trains_two_small_ones(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FIXLM_RUN", "FIXLM_OTHER_RUN"):
        monkeypatch.delenv(name, raising=False)
    small = {"data": str(tiny_corpus), "max-steps": 24, "hidden-size": 8, "embed-size": 8}
    small |= {"batch-size": 4, "bptt": 10, "threads": 1}
    outputs = execute(tmp_path, monkeypatch, FIXLM_SMALL_RUN=json.dumps(small))
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["notebook-pmi", "notebook-tied"]
    result = json.loads((tmp_path / "runs/notebook-pmi/result.json").read_text())
    assert images(outputs) == FIGURES
    for split in ("valid", "test"):
        assert f"{result[split]['perplexity']:,.2f}" in text(outputs["splits"])
    assert "has no α" not in text(outputs["alpha"])
    assert "has no families" in text(outputs["families"])
    assert f"{result['parameters']['output_trainable']:,}" in text(outputs["sides"])


def test_other_layers_and_vocabularies_will_do(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces, no α and no (V, N) matrix in the one run; words and an α that is held in the other."""
    for name, flags in (
        ("one", "walsh --walsh-families 16 --walsh-positions frequency --tokenizer sentencepiece --vocab-size 280"),
        ("other", "random-orthogonal --alpha 1"),
    ):
        given = ["--data", str(tiny_corpus), *FLAGS.split(), "--output-embed", *flags.split()]
        assert train(*given, "--run", str(tmp_path / name)) == 0
    runs = {"FIXLM_RUN": str(tmp_path / "one"), "FIXLM_OTHER_RUN": str(tmp_path / "other")}
    outputs = execute(tmp_path, monkeypatch, **runs)
    assert not (tmp_path / "runs").exists()
    assert images(outputs) == FIGURES
    assert "The output layer walsh has no α." in text(outputs["alpha"])
    assert "perplexity per piece" in text(outputs["splits"])
    assert "perplexity per word" in text(outputs["splits"])
    assert "has no families" not in text(outputs["families"])


def test_a_layer_without_one_matrix_has_no_map(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, flags in (("one", "random-orthogonal --learned-words 4 --tail-clusters 2"), ("other", "hadamard")):
        given = ["--data", str(tiny_corpus), *FLAGS.split(), "--output-embed", *flags.split()]
        assert train(*given, "--run", str(tmp_path / name)) == 0
    runs = {"FIXLM_RUN": str(tmp_path / "one"), "FIXLM_OTHER_RUN": str(tmp_path / "other")}
    outputs = execute(tmp_path, monkeypatch, **runs)
    assert "No neighbours and no map: " in text(outputs["neighbours"])
    assert images(outputs) == [name for name in FIGURES if name != "map"]


def test_it_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
        assert cell.metadata == {}
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
