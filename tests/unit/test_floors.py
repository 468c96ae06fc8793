"""The floors of the house: imports go down, never up, and doors never sideways."""

import ast

import pytest

from tests import ROOT

PACKAGE = ROOT / "pagestats"

# One floor a line, the lowest first, as the documentation shows them.
DRAWN = (ROOT / "docs" / "architecture.md").read_text().partition("\n<!-- floors -->\n```\n")[2].partition("\n```")[0]
FLOORS = [line.split() for line in DRAWN.splitlines()]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if "migrations" not in path.parts]


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """Return the names of all modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    here = room(path)
    if here == "__init__":
        assert imports(path) == set()
        return
    for name in imports(path):
        if not name.startswith("pagestats."):
            continue
        there = name.split(".")[1]
        assert there == here or FLOOR[there] < FLOOR[here], f"{here} imports {there}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_optional_packages_stay_in_their_rooms(path):
    for name in imports(path):
        if name.startswith("django_q"):
            assert room(path) in {"tasks", "schedules"}
        if name.startswith("rest_framework"):
            assert room(path) in {"api", "urls"}


def test_every_room_is_on_one_floor_and_every_floor_has_rooms():
    assert sorted(name for rooms in FLOORS for name in rooms) == sorted({room(path) for path in MODULES} - {"__init__"})
    assert all(FLOORS)


def test_only_the_guards_of_pages_catch_everything():
    broad = [
        (path.name, node.lineno)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}))
    ]
    # What the tags show is a part of a page, too; a cache may fail in any way, and so may a site's router, which is not
    # to cost the tallies what they have counted.
    assert {name for name, _ in broad} == {"cache.py", "pagestats.py", "tallies.py"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_those_who_may_ask_what_time_it_is(path):
    calls = {
        node.func.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    if calls & {"now", "utcnow", "today"}:
        assert room(path) in {"hits", "management"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_register_writes_down_the_name_of_a_dimension(path):
    named = [
        node.value.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.keyword) and node.arg == "dimension" and isinstance(node.value, ast.Constant)
    ]
    assert [name for name in named if name is not None] == []
