"""What holds for the tree as a whole."""

import ast
import importlib
import pathlib
import re

import pytest
from beartype.roar import BeartypeCallHintViolation

import dnc_jax
from dnc_jax.networks import presets
from experiments.configs import digits

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
# Of each package what it imports, the highest layer first, as the documentation says.
STATED = {
    name: set(re.findall(r"`(\w+)`", cell))
    for name, cell in re.findall(
        r"^\| `(\w+)` \| .* \| ([^|]*) \|$", ARCHITECTURE, re.MULTILINE
    )
}
# An import may only point to the same layer or to one before it.
LAYERS = tuple(reversed(STATED))
MODULES = sorted((ROOT / "dnc_jax").rglob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_only_downward(path):
    parts = path.relative_to(ROOT / "dnc_jax").with_suffix("").parts
    if parts == ("__init__",):
        return
    own = LAYERS.index(parts[0])
    for name in imported(path):
        if name.startswith("dnc_jax.") and name.split(".")[1] in LAYERS:
            assert LAYERS.index(name.split(".")[1]) <= own, name
        assert not name.startswith("jax._src"), name


def test_the_documented_layers_are_those_of_the_imports():
    found = {name: set() for name in LAYERS}
    for path in MODULES:
        own = path.relative_to(ROOT / "dnc_jax").with_suffix("").parts[0]
        targets = {
            name.split(".")[1] for name in imported(path) if name.startswith("dnc_jax.")
        }
        if own != "__init__":
            found[own] |= targets - {own}
    assert found == STATED


def test_everything_public_is_there_and_documented():
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    for package in re.findall(r"^\| `(dnc_jax[\w.]*)` \|", page, re.MULTILINE):
        module = importlib.import_module(package)
        for name in module.__all__:
            one = getattr(module, name)
            # A dataclass without a docstring gets its signature as one.
            text = getattr(one, "__doc__", None) or ""
            if callable(one) and name[0].isalpha():
                assert text, f"{package}.{name}"
                assert not text.startswith(f"{name}("), f"{package}.{name}"


def test_every_config_field_and_module_that_the_documents_name_is_there():
    fields = digits.get_config()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"--config\.([a-z_]+(?:\.[a-z0-9_]+)*)", text):
            one = fields
            for part in name.split("."):
                assert part in one, f"{path.name}: {name}"
                one = one[part]
        for module in re.findall(r"python -m (experiments[\w.]*\w)", text):
            file = ROOT / f"{module.replace('.', '/')}.py"
            assert file.is_file(), f"{path.name}: {module}"


def test_what_is_promised_is_what_the_packages_offer():
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(dnc_jax[\w.]*)` \| .* \| (.*) \|$", page, re.MULTILINE)
    assert rows[0][0] == "dnc_jax"
    for package, names in rows:
        offered = set(importlib.import_module(package).__all__) - {"__version__"}
        assert set(re.findall(r"`(\w+)`", names)) == offered, package


def test_the_version_is_the_packages():
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert f'version="{dnc_jax.__version__}"' in text


def test_the_readme_opens_with_the_two_commands():
    first, second = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)[:2]
    assert "python -m experiments.search" in first
    assert "python -m pytest" in second
    assert len(re.findall("```bash", README)) == 2, "CI runs the first two blocks"


def test_the_readmes_python_blocks_run(capsys):
    quick = README.replace(
        "candidates=27, rungs=(3, 9, 27)", "candidates=3, rungs=(2,)"
    ).replace("epochs=50", "epochs=2")
    assert quick.count("rungs=(2,)") == quick.count("epochs=2") == 1
    for block in re.findall(r"```python\n(.*?)```", quick, re.DOTALL):
        exec(compile(block, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "lr " in printed
    assert re.search(r"^energy (unavailable|[\d,]+ J)", printed, re.MULTILINE)


def test_every_file_the_readme_links_is_there():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_calls_in_tests_are_held_against_the_annotations():
    with pytest.raises(BeartypeCallHintViolation, match="layers='many'"):
        presets.shortcut_distance("many")
