"""Who may import whom. The table is the design; a room that is not in it does not exist yet."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = [path for top in ("ctrl", "widgets") for path in (ROOT / top).rglob("*.py")]
FILES = sorted(path.relative_to(ROOT).as_posix() for path in SOURCES)
FRONT = "the public names"  # `import ctrl`, `from ctrl import Recipe`

ROOMS = {
    "caller": set(),  # every room may import it
    "images": set(),
    "skeleton": set(),
    "attention": {"memory", "recipe", "rows"},
    "predictions": set(),
    "rows": set(),
    "memory": set(),
    "threads": set(),
    "guidance": {"predictions", "recipe", "rows"},
    "prompts": set(),
    "recipe": {"images", "prompts", "skeleton"},
    "maps": {"attention", "images", "rows"},
    "model": {"attention", "images", "memory", "predictions", "prompts", "rows"},
    "notes": {"atelier", "recipe", "images", "prompts"},
    "blending": set(),
    "conditioning": {"blending", "images", "memory", "recipe", "rows"},
    "obedience": {"atelier", "detect", "images", "recipe", "skeleton"},
    "sampling": {
        "attention",
        "blending",
        "conditioning",
        "guidance",
        "images",
        "maps",
        "memory",
        "model",
        "notes",
        "obedience",
        "recipe",
        "rows",
    },
    "live": {"atelier", "attention", "images", "maps", "memory", "model", "recipe", "rows", "sampling", "threads"},
    "studio": {"options"},
    "sweeps": {"images", "live", "memory", "model", "recipe", "sampling"},
    "detect": {"images", "skeleton", "atelier"},
    "atelier": {"attention", "images", "skeleton"},
    "widgets": {FRONT, "skeleton", "threads"},
}
EVERY_ROOM = {*ROOMS} - {"widgets"}
ROOMS["__init__"] = EVERY_ROOM
ROOMS["__main__"] = {*EVERY_ROOM, FRONT, "options"}
ROOMS["options"] = {"atelier", "recipe", "skeleton", FRONT}
ROOMS["train"] = {*EVERY_ROOM, FRONT}

# A room that grew a second file is still one room.
ANNEXES: dict[str, str] = {}

# Files with a door of their own, beside the doors of their room.
DOORS = {f"ctrl/atelier/{name}.py": {FRONT} for name in ("measure", "work", "asked", "truth", "effects", "edited")}

# A name used in an annotation only, under `if TYPE_CHECKING:`, runs nothing.
TYPES_ONLY = {"notes": {"model"}, "blending": {"model"}, "conditioning": {"model"}, "widgets": {"live"}}

BORDER = {"diffusers", "transformers"}
HEAVY = {"torch", "diffusers", "transformers"}
FRONT_ENDS = {"widgets", "ipywidgets", "anywidget", "IPython"}


def room_of(file: str) -> str:
    """`ctrl/atelier/scene.py` is of the room atelier, `ctrl/recipe.py` of the room recipe."""
    parts = Path(file).with_suffix("").parts
    return parts[0] if parts[0] == "widgets" else ANNEXES.get(parts[1], parts[1])


def imports(file: str, source: str) -> list[tuple[str, bool]]:
    """Every dotted name a file imports, wherever it does so, and whether it is for annotations only."""
    package = list(Path(file).with_suffix("").parts[:-1])
    tree = ast.parse(source, filename=file)
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            names = [text for text in texts if isinstance(text, str)]
        found += [(name, id(node) in for_types) for name in names]
    return found


def door(name: str) -> str | None:
    """The room a dotted name leads to, FRONT for ctrl's own names, None for a library."""
    top, _, rest = name.partition(".")
    if top == "widgets":
        return "widgets"
    if top != "ctrl":
        return None
    first = rest.partition(".")[0]
    room = ANNEXES.get(first, first)
    return room if room in ROOMS else FRONT


def read(file: str) -> list[tuple[str, bool]]:
    return imports(file, (ROOT / file).read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", FILES)
def test_a_room_opens_only_onto_its_neighbours(file):
    room = room_of(file)
    assert room in ROOMS, f"{file}: give the room {room!r} a row in the table first"
    allowed = ROOMS[room] | DOORS.get(file, set()) | {room, "caller"}
    for name, for_types in read(file):
        opens = door(name)
        if opens is None or opens in allowed or (for_types and opens in TYPES_ONLY.get(room, ())):
            continue
        rooms = ", ".join(sorted(allowed - {room, "caller"})) or "nothing of ours"
        pytest.fail(f"{file} imports {name}; {room} may import {rooms}")


@pytest.mark.parametrize("file", FILES)
def test_diffusers_and_transformers_are_named_at_the_border_only(file):
    if file.startswith(("ctrl/model/", "ctrl/train/")):
        return
    assert not BORDER & {name.partition(".")[0] for name, _ in read(file)}


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("ctrl/")])
def test_the_engine_knows_no_front_end(file):
    assert not FRONT_ENDS & {name.partition(".")[0] for name, _ in read(file)}


@pytest.mark.parametrize("file", [file for file in FILES if not file.startswith("ctrl/train/")])
def test_nobody_imports_the_recipe_of_the_weights(file):
    assert "train" not in {door(name) for name, _ in read(file)}


def targets(file, files):
    """The files that a file imports when it runs, wherever in it the import stands."""
    found = set()
    for name, for_types in read(file):
        parts = name.split(".")
        paths = ["/".join(parts[:end]) for end in range(len(parts), 0, -1)]
        homes = [home for path in paths for home in (f"{path}.py", f"{path}/__init__.py") if home in files]
        if homes and not for_types:
            found.add(homes[0])
    return found - {file}


def circles(arrows):
    """Groups of nodes that reach one another, by Tarjan's algorithm; `arrows` maps a node to those it leads to."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in arrows[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            found.extend([sorted(group)] if len(group) > 1 else [])

    for node in arrows:
        if node not in index:
            visit(node)
    return found


def test_no_file_imports_in_a_circle():
    # `ctrl/__init__.py` offers names lazily; who imports it asks for a name, and leads to where that is.
    files = {file for file in FILES if file not in ("ctrl/__init__.py", "widgets/__init__.py")}
    assert circles({file: targets(file, files) for file in sorted(files)}) == []


def test_the_guard_sees_circles():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def test_no_room_is_called_utils():
    assert not {"utils", "util", "helpers", "common", "misc"} & {Path(file).stem for file in FILES}


def test_import_ctrl_is_quick_and_does_nothing():
    code = "import sys, ctrl; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not (HEAVY | FRONT_ENDS) & set(done.stdout.split())
    assert done.stderr == ""


SEEN = [
    ("ctrl/a.py", "import ctrl.recipe", "ctrl.recipe", "recipe"),
    ("ctrl/a.py", "from ctrl import recipe", "ctrl.recipe", "recipe"),
    ("ctrl/a.py", "from ctrl import Recipe", "ctrl.Recipe", FRONT),
    ("ctrl/a.py", "from .recipe import Recipe", "ctrl.recipe.Recipe", "recipe"),
    ("ctrl/atelier/a.py", "from ..model import load", "ctrl.model.load", "model"),
    ("ctrl/atelier/a.py", "from . import scene", "ctrl.atelier.scene", "atelier"),
    ("ctrl/a.py", "def f():\n    import ctrl.train.codec", "ctrl.train.codec", "train"),
    ("ctrl/a.py", "import importlib\nimportlib.import_module('ctrl.train')", "ctrl.train", "train"),
    ("ctrl/a.py", "import torch.nn", "torch.nn", None),
]


@pytest.mark.parametrize(("file", "source", "name", "opens"), SEEN)
def test_the_guard_sees_every_form_of_import(file, source, name, opens):
    assert imports(file, source)[-1] == (name, False)
    assert door(name) == opens


def test_the_guard_knows_an_annotation_from_a_use():
    source = "if TYPE_CHECKING:\n    import ctrl.model\nelse:\n    import ctrl.live"
    assert imports("ctrl/a.py", source) == [("ctrl.model", True), ("ctrl.live", False)]
