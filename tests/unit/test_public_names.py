"""What a site may import: the names below, and every name that the README imports or mentions."""

import ast
import re
import textwrap
from importlib import import_module

import pytest

from tests import ROOT

PUBLIC = {
    "pagestats.hits": ("Hit",),
    "pagestats.recording": ("record_heartbeat", "record_page_view", "record_page_views", "record_visit"),
    "pagestats.stats": ("active", "active_on", "popular", "report", "snapshot", "views_of", "with_views"),
    "pagestats.rollups": ("backfill", "merge_paths", "rebuild", "repair", "SealedDay", "verify"),
    "pagestats.retention": ("cleanup_stale_sessions", "erase", "forget", "prune"),
    "pagestats.middleware": ("PageViewMiddleware",),
    "pagestats.models": ("PageView", "Stats"),
    "pagestats.admin": ("StatsAdmin",),
    "pagestats.model_admin": ("ViewsAdminMixin",),
    "pagestats.querysets": ("ViewsMixin",),
    "pagestats.views": ("PublicStatsView",),
    "pagestats.testing": ("Browser", "add_views", "assert_not_recorded", "assert_recorded", "recording"),
    "pagestats.urls": ("urlpatterns",),
    "pagestats.beacons": ("urlpatterns",),
}

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^( *)```python\n(.*?)^ *```$", README, re.DOTALL | re.MULTILINE)


def imported_by_the_readme() -> set[tuple[str, str]]:
    """Return (module, name) of what the README's Python imports from the package."""
    nodes = [node for _, code in BLOCKS for node in ast.walk(ast.parse(textwrap.dedent(code)))]
    assert not any(isinstance(node, ast.Import) and "pagestats" in ast.unparse(node) for node in nodes)
    return {
        (node.module, alias.name)
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pagestats")
        for alias in node.names
    }


def mentioned_in_the_readme() -> set[str]:
    """Return the dotted names of the package, in prose and in strings, without permissions and ids of checks."""
    names = set(re.findall(r"(?<![\w./-])pagestats(?:\.[A-Za-z_]\w*)+(?![\w/-])", README))
    return {name for name in names if not re.fullmatch(r"pagestats\.(view_\w+|[EWI]\d+)", name)}


def found(dotted: str) -> bool:
    """Return whether a dotted name is a module, or leads from one to an attribute."""
    try:
        import_module(dotted)
    except ModuleNotFoundError:
        module, _, name = dotted.rpartition(".")
        return hasattr(import_module(module), name)
    return True


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in PUBLIC.items() for name in names])
def test_public_name_can_be_imported(module: str, name: str) -> None:
    assert hasattr(import_module(module), name)


def test_readme_imports_only_public_names() -> None:
    imported = imported_by_the_readme()
    assert len(imported) > 20
    assert imported <= {(module, name) for module, names in PUBLIC.items() for name in names}


def test_every_name_that_the_readme_mentions_exists() -> None:
    names = mentioned_in_the_readme()
    assert len(names) > 5
    assert [name for name in sorted(names) if not found(name)] == []
