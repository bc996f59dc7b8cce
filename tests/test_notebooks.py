"""The notebooks are stories: stored without outputs, true to the names there are, and they run to the end."""

import ast
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


@every_notebook
def test_it_is_stored_without_outputs(path):
    for cell in code_cells(path):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


@every_notebook
def test_it_uses_only_names_the_package_has(path):
    import ctrl

    trees = [ast.parse("".join(cell["source"])) for cell in code_cells(path)]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    asked = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ctrl"
    }
    assert asked
    assert asked <= set(ctrl.__all__)
    deep = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert not [name for name in deep if name and name.startswith(("ctrl.", "widgets."))]


@pytest.mark.slow
@every_notebook
def test_it_runs_to_the_end(path, tmp_path):
    import nbclient  # here: what it imports takes seconds, and only the whole suite needs it
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    pictures = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(pictures) >= 3


@pytest.mark.slow
def test_the_cells_that_need_the_hub_run_on_small_models_of_the_same_families(folder, tmp_path, monkeypatch):
    import tiny_formats

    import ctrl

    small = {
        "stable-diffusion-v1-5/stable-diffusion-v1-5": folder,
        "stabilityai/stable-diffusion-xl-base-1.0": tiny_formats.save_folder(tiny_formats.sdxl(), tmp_path / "xl"),
    }
    load, asked = ctrl.load, []
    monkeypatch.setattr(ctrl, "load", lambda name: asked.append(name) or load(small[name], local_files_only=True))
    from widgets import GuidancePanel

    names = {"ctrl": ctrl, "GuidancePanel": GuidancePanel}
    cells = [cell for cell in code_cells(ROOT / "notebooks/your_own_model.ipynb") if cell["metadata"].get("tags")]
    assert [cell["metadata"]["tags"] for cell in cells] == [["skip-execution", "hub"]] * 3
    for cell in cells:
        source = "".join(cell["source"])
        assert source.startswith("# needs the hub")
        small_run = source.replace("steps=25", "steps=2").replace(
            "(sdxl, fox,", "(sdxl, fox.replace(width=128, height=128),"
        )
        exec(small_run, names)
    shot = names["panel"].shot
    names["panel"].close()
    assert asked == list(small) and shot.recipe.controls[0].picture == ctrl.Skeleton.named("arms outstretched")
