"""The structure of `tasks/`: layers, circles, sizes, names, and where Invoke, rich and the system are known."""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent / "tasks"
MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
# From the top down; what shares a layer does not import each other.
LAYERS = (
    {"cli"},
    {"output"},
    {"doctor"},
    {"backup"},
    {"branches"},
    {"staging", "scratch"},
    {"restore"},
    {"load"},
    {"verify", "prisma"},
    {"safety"},
    {"dump"},
    {"inventory", "dumpfiles", "remote", "devserver"},
    {"postgres"},
    {"config"},
    {"dumpformat"},
    {"system"},
    {"errors"},
    {"formatting", "progress"},
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MOST_MODULES, MOST_LINES, MOST_SHARE = 16, 400, 0.16
# The lexer is one state machine; the objects are one table of queries.
LONG = {"dumpformat/lexer.py": 700, "inventory/objects.py": 730}
BANNED = {"read", "place", "check", "find", "choose", "compare"}


@functools.cache
def syntax_of(path: Path) -> ast.Module:
    """Return the syntax tree of a file, which is parsed once."""
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """Return all nodes of a file's syntax tree, which is walked once."""
    return tuple(ast.walk(syntax_of(path)))


def name_of(path: Path) -> str:
    """Return a module's dotted name inside the package; that of a package for its `__init__`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in MODULES}


@functools.cache
def imports(path: Path) -> tuple[tuple[str, bool], ...]:
    """Return each import of a module, those for types included: a dotted name, and whether it is of this package."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[tuple[str, bool]]:
    package = list(path.relative_to(ROOT).parts[:-1])
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            yield from ((each.name, False) for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module), False
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            for each in node.names:
                full = ".".join([*base, each.name])
                yield (full if full in NAMES else ".".join(base)), True


def own_imports(path: Path) -> set[str]:
    """Return the modules of this package that a module imports."""
    return {name for name, own in imports(path) if own and name}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down(path: Path) -> None:
    """A module imports from its own folder and from lower layers, and never names the package itself."""
    folder = path.relative_to(ROOT).parts[0].removesuffix(".py")
    wrong = []
    for name, own in imports(path):
        if not own:
            assert name.split(".")[0] not in {"tasks", "invoke_postgres"}
        elif name and (other := name.split(".")[0]) != folder and LEVEL[other] <= LEVEL[folder]:
            wrong.append(name)
    assert not wrong


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the nodes that lie on circles of a graph."""
    left = dict(graph)
    while leaves := [node for node, to in left.items() if not to & left.keys()]:
        for node in leaves:
            del left[node]
    while roots := [node for node in left if not any(node in to for to in left.values())]:
        for node in roots:
            del left[node]
    return sorted(left)


def test_no_circles() -> None:
    """No modules import each other in a circle, and no folders do."""
    modules = {name_of(path): own_imports(path) - {name_of(path)} for path in MODULES}
    folders: dict[str, set[str]] = {}
    for name, to in modules.items():
        folder = name.split(".")[0]
        folders.setdefault(folder, set()).update(other.split(".")[0] for other in to if other.split(".")[0] != folder)

    assert not circle(modules)
    assert not circle(folders)


def test_tests_share_helpers_not_tests() -> None:
    """No module imports from a module of tests: what several need is a helper in `tests/`."""
    for path in Path(__file__).parent.rglob("*.py"):
        modules = {str(node.module) for node in nodes_of(path) if isinstance(node, ast.ImportFrom)}
        assert not {each for each in modules if each.rpartition(".")[2].startswith("test_")}, path.name


def test_errors_are_known_by_their_class() -> None:
    """No test matches words of an error's sentence: its class, its SQLSTATE and what it names are enough."""
    found = [
        f"{path.name}:{node.lineno}: {text}"
        for path in sorted(Path(__file__).parent.rglob("*.py"))
        for node in nodes_of(path)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.raises"
        for keyword in node.keywords
        if keyword.arg == "match" and (text := ast.unparse(keyword.value))
        if any(isinstance(each, ast.Constant) and " " in str(each.value) for each in ast.walk(keyword.value))
    ]

    assert not found


def test_sizes() -> None:
    """No module, folder or share of the whole is too large to find one's way in."""
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    folders = Counter(path.relative_to(ROOT).parts[0] for path in MODULES if path.name != "__init__.py")
    shares: Counter[str] = Counter()
    for path, count in lines.items():
        shares[path.relative_to(ROOT).parts[0]] += count

    long = {
        str(path.relative_to(ROOT)): count
        for path, count in lines.items()
        if count > LONG.get(path.relative_to(ROOT).as_posix(), MOST_LINES)
    }
    assert not long
    assert not {name: count for name, count in folders.items() if count > MOST_MODULES}
    whole = sum(lines.values())
    assert not {name: count / whole for name, count in shares.items() if count / whole > MOST_SHARE}


def runtime_imports(path: Path) -> set[str]:
    """Return the top packages that a module imports, but for those for types alone."""
    source = syntax_of(path)
    for_types = {
        id(child)
        for node in ast.walk(source)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    found = set()
    for node in ast.walk(source):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module).split(".")[0])
        elif isinstance(node, ast.Import):
            found.update(each.name.split(".")[0] for each in node.names)
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_libraries_are_known_in_their_place(path: Path) -> None:
    """Invoke is known in `cli`, the settings and the errors; rich in `cli`; subprocess and signal in `system`."""
    name, found = name_of(path), runtime_imports(path)
    folder = name.split(".")[0]
    assert folder == "cli" or name in {"config.settings", "errors"} or "invoke" not in found
    assert folder == "cli" or "rich" not in found
    assert folder == "system" or not found & {"subprocess", "signal"}
    assert folder == "system" or not reads_environment(path)


def reads_environment(path: Path) -> bool:
    """Tell whether a module reads `os.environ`."""
    return any(
        isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"} and ast.unparse(node.value) == "os"
        for node in nodes_of(path)
    )


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_names_say_enough(path: Path) -> None:
    """No function or class of a module has a name that says too little."""
    body = syntax_of(path).body
    assert not {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)} & BANNED


# Words of an old private dialect, which were renamed to the field's terms: no identifier is one of them, with or
# without an underscore in front, in whatever case.
OLD_NAMES = {
    *("alone_error", "attached", "elsewhere_error", "far", "fate", "forgive", "forgiven", "goes", "gone", "ill"),
    *("leashed", "let_go", "lying", "making_way", "meet", "met", "misshapen", "moved_error", "packing", "past"),
    *("place", "places", "saves", "sentences", "settle", "spared", "spares", "stands", "stay", "strange"),
    *("undivided", "unnoticed", "unshown_error", "welcome", "wires", "work", "work_error"),
}
# Nor does one of them hold these.
OLD_PARTS = {"beside", "besides", "goes", "ills", "leash", "mighty", "stays", "survey", "told", "undivided", "wire"}


def identifiers(path: Path) -> set[str]:
    """Return all names that a module defines, assigns or reads."""
    found = set()
    for node in nodes_of(path):
        for field in ("name", "asname", "id", "attr", "arg"):
            if isinstance(name := getattr(node, field, None), str):
                found.add(name)
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_old_names_are_gone(path: Path) -> None:
    """No identifier of a module is of the dialect that was given up."""
    words = {name: re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).strip("_").lower() for name in identifiers(path)}
    old = {name for name, word in words.items() if word in OLD_NAMES or OLD_PARTS & set(word.split("_"))}
    assert not old


# What holds what a program, a server or an error said to people.
MESSAGES = {"message", "message_primary", "message_detail", "message_hint", "said", "stderr"}
READERS = {
    "startswith",
    "endswith",
    "partition",
    "rpartition",
    "removeprefix",
    "removesuffix",
    "find",
    "index",
    "count",
}
MATCHERS = {"search", "match", "fullmatch", "findall", "finditer"}
# Where text decides all the same, or only text is made of it, and why.
READ_MESSAGES = {
    "config.database_url judge_url": "libpq gives no code for a bad URL; the text is cut so that it holds no secret",
    "dump.pg_dump PgDump.failure": "pg_dump shows no SQLSTATE, and speaks English to us but for the server's text",
    "dump.pg_dump last_error": "chooses what of it is shown",
    "postgres.lock_capacity is_enough": "looks for the name of a setting, which no language translates",
    "postgres.login_failure not_connected": "libpq gives no SQLSTATE of a failed login; only advice depends on it",
}


def messages_read(path: Path) -> set[str]:
    """Return the functions of a module that look into a message: compare, search or cut it."""
    found = set()
    for qualified, function in functions(syntax_of(path), ""):
        caught = {node.name for node in ast.walk(function) if isinstance(node, ast.ExceptHandler) and node.name}
        arguments = [*function.args.args, *function.args.kwonlyargs]
        errors = caught | {each.arg for each in arguments if "Error" in ast.unparse(each.annotation or ast.Tuple([]))}
        names = {"said", "stderr"}
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and is_message(node.value, errors, names):
                names |= {each.id for each in node.targets if isinstance(each, ast.Name)}
            elif isinstance(node, ast.For | ast.comprehension) and is_message(node.iter, errors, names):
                names |= {each.id for each in [node.target] if isinstance(each, ast.Name)}
        if any(reads_message(node, errors, names) for node in ast.walk(function)):
            found.add(f"{name_of(path)} {qualified}")
    return found


def functions(node: ast.AST, inside: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield the functions below a node, with the classes that they are in."""
    for each in ast.iter_child_nodes(node):
        if isinstance(each, ast.FunctionDef):
            yield inside + each.name, each
        elif isinstance(each, ast.ClassDef):
            yield from functions(each, f"{inside}{each.name}.")


def is_message(node: ast.AST, errors: set[str], names: set[str]) -> bool:
    """Tell whether an expression is a message, or made of one by a method of texts or by another function."""
    if isinstance(node, ast.Name | ast.Attribute):
        return node.id in names if isinstance(node, ast.Name) else node.attr in MESSAGES
    if isinstance(node, ast.BoolOp):
        return any(is_message(each, errors, names) for each in node.values)
    if isinstance(node, ast.Subscript):
        return is_message(node.value, errors, names)
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Attribute) and is_message(node.func.value, errors, names):
        return True
    text = isinstance(node.func, ast.Name) and node.func.id == "str"
    return (text and any(isinstance(each, ast.Name) and each.id in errors for each in node.args)) or any(
        is_message(each, errors, names) for each in node.args
    )


def reads_message(node: ast.AST, errors: set[str], names: set[str]) -> bool:
    """Tell whether an expression decides on a message, or cuts it."""
    if isinstance(node, ast.Compare):
        # A member of an enum that a listed function has found is no text.
        by_text = not all(isinstance(each, ast.Is | ast.IsNot) for each in node.ops)
        return by_text and any(is_message(each, errors, names) for each in (node.left, *node.comparators))
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    if node.func.attr in READERS:
        return is_message(node.func.value, errors, names)
    return node.func.attr in MATCHERS and any(is_message(each, errors, names) for each in node.args)


def test_messages_decide_nothing() -> None:
    """No function looks into the message of an error or of a program, but for those that are listed with a reason."""
    found = {name for path in MODULES if name_of(path).split(".")[0] != "cli" for name in messages_read(path)}

    assert found == READ_MESSAGES.keys()


@pytest.mark.parametrize(
    "body",
    [
        "'x' in str(error)",
        "str(error) == 'x'",
        "str(error).startswith('x')",
        "str(error).strip().removesuffix('x')",
        "error.message != 'x'",
        "error.diag.message_primary.partition('x')",
        "re.search('x', scrub(str(error)))",
    ],
)
def test_a_branch_on_a_message_is_found(body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever way a function looks into a message, the test above sees it."""
    module = tmp_path / "module.py"
    module.write_text(f"def f():\n    try:\n        g()\n    except E as error:\n        return {body}\n")
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)

    assert messages_read(module) == {"module f"}


@functools.cache
def dataclass_fields() -> dict[tuple[str, str], int]:
    """Return the dataclasses of all modules, each with how many fields it has."""
    return {
        (name_of(path), node.name): sum(isinstance(each, ast.AnnAssign) for each in node.body)
        for path in MODULES
        for node in syntax_of(path).body
        if isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(each) for each in node.decorator_list)
    }


def imported_names(path: Path) -> dict[str, tuple[str, str]]:
    """Return what the names in a module mean that are defined in it or imported from this package."""
    source = syntax_of(path)
    package = list(path.relative_to(ROOT).parts[:-1])
    found = {node.name: (name_of(path), node.name) for node in source.body if isinstance(node, ast.ClassDef)}
    for node in ast.walk(source):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])
            found |= {each.asname or each.name: (base, each.name) for each in node.names}
    return found


POSITIONAL_FIELDS = 2


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_dataclasses_are_constructed_by_keyword(path: Path) -> None:
    """A dataclass with three or more fields gets none of them by position."""
    names = imported_names(path)
    found = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in nodes_of(path)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args
        if dataclass_fields().get(names.get(node.func.id, ("", "")), 0) > POSITIONAL_FIELDS
    ]

    assert not found
