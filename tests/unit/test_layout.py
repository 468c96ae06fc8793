"""Where a test may stand, and what it may import: docs/architecture.md has the reasons."""

import ast

from tests import ROOT

FOLDERS = ("unit", "db", "processes", "browser", "proofs")
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))


def test_every_test_is_in_a_folder_that_says_what_it_needs() -> None:
    assert len(TESTS) > 50
    assert {path.relative_to(ROOT / "tests").parts[0] for path in TESTS} == set(FOLDERS)


def test_no_test_imports_from_another_test() -> None:
    found = [
        f"{path.relative_to(ROOT)} imports from {node.module}"
        for path in TESTS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith(tuple(f"tests.{name}" for name in FOLDERS))
    ]
    assert found == []
