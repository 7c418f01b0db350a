"""The house keeps its order: rooms import only from rooms before them, in no circle, and modules stay small."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = (
    "embeddings", "fixlm", "fixlm.errors", "fixlm.console", "fixlm.cache_directory", "fixlm.output", "fixlm.model",
    "fixlm.config", "fixlm.corpus", "fixlm.runs", "fixlm.evaluation", "fixlm.training", "fixlm.comparison",
    "fixlm.cli", "commands",
)  # fmt: skip
"""From the bottom to the top; a room that is a package holds all its modules."""
COMMANDS = tuple(f"fixlm.{name}" for name in ("train", "evaluate", "generate", "score", "export", "harness", "compare"))
LONGEST = 300
MOST_LEVELS = 8
LONG_KERNEL = "fixlm.output.kernels.block_hadamard_numba"


def find_modules() -> dict[str, Path]:
    found = {}
    for package in ("fixlm", "embeddings"):
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


MODULES = find_modules()


def room(module: str) -> str:
    if module in COMMANDS:
        return "commands"
    return next(room for room in sorted(ROOMS, key=len, reverse=True) if f"{module}.".startswith(f"{room}."))


@functools.cache
def imports(module: str, *, lazy: bool) -> frozenset[str]:
    """The modules of ours that a module imports; with ``lazy`` also those that its functions import."""

    def walk(node: ast.AST, inside: bool) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            function = inside or isinstance(child, ast.FunctionDef)
            if isinstance(child, ast.ImportFrom) and child.module and (lazy or not inside):
                for alias in child.names:
                    whole = f"{child.module}.{alias.name}"
                    yield whole if whole in MODULES else child.module
            elif isinstance(child, ast.Import) and (lazy or not inside):
                yield from (alias.name for alias in child.names)
            yield from walk(child, function)

    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    return frozenset(name for name in walk(tree, False) if name in MODULES and name != module)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_its_room_and_those_before_it(module: str) -> None:
    order = {name: place for place, name in enumerate(ROOMS)}
    above = [other for other in imports(module, lazy=True) if order[room(other)] > order[room(module)]]
    assert above == []


@pytest.mark.parametrize("lazy", [False, True])
def test_no_circle_of_imports(lazy: bool) -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " > ".join([*path, module])
        if module not in done:
            for other in imports(module, lazy=lazy):
                visit(other, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


def test_the_graph_of_imports_is_flat() -> None:
    @functools.cache
    def chain(module: str) -> tuple[str, ...]:
        below = max((chain(other) for other in imports(module, lazy=False)), key=len, default=())
        return (module, *below)

    longest = max(map(chain, MODULES), key=len)
    assert len(longest) <= MOST_LEVELS, " > ".join(longest)


@pytest.mark.parametrize("module", [module for module in MODULES if module != LONG_KERNEL])
def test_a_module_is_short_enough_to_read(module: str) -> None:
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= LONGEST


def test_a_layer_is_named_by_its_own_file_and_the_registry_alone() -> None:
    """No other module asks whether the layer is walsh, tied, … so that a new one is a file and a line."""
    names = {"tied", "walsh", "hadamard", "adaptive", "random-orthogonal", "sylvester"}
    for module, path in MODULES.items():
        if not module.startswith(("fixlm.output", "embeddings.methods", "embeddings.registry")):
            constants = (node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
            assert not names & {value for value in constants if isinstance(value, str)}, module
