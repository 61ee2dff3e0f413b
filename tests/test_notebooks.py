"""The notebooks of docs/: run from top to bottom, and kept with their pictures, small and without a trace of the machine that ran them."""

import ast
import json
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = [ROOT / "docs" / "notebooks" / f"{name}.ipynb" for name in ("pretraining", "sign_to_text", "text_to_sign", "recognition")]
NAME = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def test_the_folder_holds_these_and_is_small():
    files = [path for path in (ROOT / "docs" / "notebooks").rglob("*") if path.is_file() and ".ipynb_checkpoints" not in path.parts]
    assert sorted(files) == sorted(NOTEBOOKS)
    assert sum(path.stat().st_size for path in files) < 2_000_000


@NAME
def test_a_notebook_is_kept_as_it_ran_from_top_to_bottom(path):
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) or "image/svg+xml" in output.get("data", {}) for output in outputs) >= 2


@NAME
def test_a_notebook_names_no_folder_of_a_machine(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"""(?<![\w.<"])/(home|root|tmp|work|Users|opt|usr|var|mnt)/""", text)
    assert set(json.loads(text)["metadata"]) == {"kernelspec", "language_info"}


@NAME
def test_the_code_of_a_notebook_can_be_parsed_and_its_imports_are_there(path):
    source = "\n".join("".join(cell["source"]).removeprefix("%%capture\n") for cell in code_cells(path))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ("modeling_unigloR", "train", "datasets_scripts"):
            module = __import__(node.module, fromlist=["_"])
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            for name in missing:  # a module of a package
                __import__(f"{node.module}.{name}")


@pytest.mark.slow
def test_the_notebooks_run(tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    for path in NOTEBOOKS:  # in one folder: the first leaves the SignMAE of the others
        notebook = nbformat.read(path, as_version=4)
        nbclient.NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert Path(tmp_path, "outputs/notebooks/text-to-sign/model.safetensors").exists()
