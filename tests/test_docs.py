"""Every Python block and notebook cell of the documentation, run in its order."""

import json
import pathlib
import re

import pytest

DOCS = pathlib.Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))


def blocks(page, before="^```python"):
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"{before}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page)], ids=lambda page: page.stem
)
def test_the_python_blocks_of_a_page_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks(page):
        exec(compile(block, page.name, "exec"), names)
    printed = capsys.readouterr().out
    for promised in blocks(page, r"^It prints[^\n]*:\n\n```"):
        assert promised in printed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_file_a_page_links_is_there(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
        assert (DOCS / target).exists(), target


@pytest.mark.parametrize(
    "notebook",
    sorted((DOCS / "notebooks").glob("*.ipynb")),
    ids=lambda notebook: notebook.stem,
)
def test_the_cells_of_a_notebook_run(notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    names = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "outputs are not kept in the repository"
            source = "".join(cell["source"])
            exec(compile(source, notebook.name, "exec"), names)
