"""The plan of the house: imports run downwards only, functions fit on a screen, public functions say their types."""

import ast
import functools
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# From the bottom up; a module belongs to the longest name that fits. It may import from its own floor and from below.
FLOORS = (
    ("choices", "digests", "extras", "familiar", "files", "host", "progress", "rendezvous", "streams", "types"),
    ("decision", "draws", "parallel"),
    ("distances", "labels", "rows"),
    ("augment", "encoders", "heads", "losses", "mining", "optimizer", "options"),
    ("data",),
    ("pretrained", "sampling"),
    ("data.training_images",),
    ("training",),
    ("run",),
    ("network",),
    ("evaluation",),
    ("export", "gallery", "report"),
    ("evaluate", "fitting", "serve"),
    ("folds", "train"),
    ("cli",),
    ("__main__", "launch"),
)


@functools.cache
def modules():
    """Module name, without "siamjax.", -> its syntax tree; without the package's own file, which imports lazily."""
    paths = [path for path in (ROOT / "siamjax").rglob("*.py") if path != ROOT / "siamjax" / "__init__.py"]
    names = [
        ".".join(path.relative_to(ROOT / "siamjax").with_suffix("").parts).removesuffix(".__init__") for path in paths
    ]
    trees = {name: ast.parse(path.read_text()) for name, path in zip(names, paths, strict=True)}
    return {**trees, "launch": ast.parse((ROOT / "launch.py").read_text())}


def imported(name):
    """The modules that a module imports, anywhere in its file."""
    found = set()
    for node in ast.walk(modules()[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
            found.add(node.module)
    own = {each.removeprefix("siamjax.") for each in found if each.startswith("siamjax.")}
    # Of `from siamjax.a import b`, b may be a module or a name in it: then the module is a.
    return {
        each
        for each in own
        if each in modules() and not any(other.startswith(f"{each}.") for other in own & set(modules()))
    } - {name}


def floor(name):
    fits = [
        (len(prefix), number)
        for number, row in enumerate(FLOORS)
        for prefix in row
        if f"{name}.".startswith(f"{prefix}.")
    ]
    assert fits, f"{name} is on no floor; add it to FLOORS"
    return max(fits)[1]


def functions(name):
    """(qualified name, node, public) of each function and method of a module, nested ones included."""

    def walk(node, prefix, public):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                shown = public and (not child.name.startswith("_") or child.name in ("__call__", "__init__"))
                if not isinstance(child, ast.ClassDef):
                    yield f"{prefix}.{child.name}", child, shown
                yield from walk(child, f"{prefix}.{child.name}", shown and isinstance(child, ast.ClassDef))
            else:
                yield from walk(child, prefix, public)

    return walk(modules()[name], name, True)


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_run_downwards(name):
    upwards = sorted(other for other in imported(name) if floor(other) > floor(name))
    assert not upwards, f"{name} imports {upwards} from a floor above it"


@pytest.mark.parametrize("name", sorted(modules()))
def test_topic_files_are_imported_within_their_package_only(name):
    for other in imported(name):
        package, _, private = other.partition("._")
        assert not private or name == package or name.startswith(f"{package}."), f"{name} imports {other}"


def test_no_import_cycle():
    state = {}

    def visit(name, path):
        assert state.get(name) != "open", f"cycle: {' -> '.join([*path[path.index(name) :], name])}"
        if name not in state:
            state[name] = "open"
            for other in sorted(imported(name)):
                visit(other, [*path, name])
            state[name] = "done"

    for name in modules():
        visit(name, [])


@pytest.mark.parametrize("name", sorted(modules()))
def test_functions_fit_on_a_screen_and_files_stay_short(name):
    for function, node, _ in functions(name):
        body = node.body[1:] if ast.get_docstring(node) else node.body
        lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
        assert lines <= 45, f"{function} has {lines} lines"
    lines = max((node.end_lineno for node in modules()[name].body), default=0)
    assert lines <= 400, f"{name} has {lines} lines"


@pytest.mark.parametrize("name", sorted(modules()))
def test_public_functions_are_annotated(name):
    for function, node, public in functions(name):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
        bare = [each.arg for each in arguments if each and not each.annotation and each.arg not in ("self", "cls")]
        if public:
            assert not bare, f"{function}: annotate {', '.join(bare)}"
            assert node.returns or node.name == "__init__", f"{function}: annotate what it returns"
