import re
from datetime import timedelta

import pytest
from django.core.management import get_commands, load_command_class
from django.db.models import F

from pagestats.admin.health import REASONS
from pagestats.checks import CHECKS
from pagestats.conf import Settings
from tests import ROOT
from tests.factories import A_SECTION

README = (ROOT / "README.md").read_text()


def in_words(value):
    """Return a default as the README writes it."""
    if isinstance(value, timedelta):
        seconds = int(value.total_seconds())
        return f"{seconds // 60} minutes" if seconds % 60 == 0 else f"{seconds} seconds"
    return f"`{list(value)!r}`" if isinstance(value, tuple) else f"`{value!r}`"


def test_the_readme_lists_each_setting_with_its_default_and_its_meaning():
    table = re.findall(r"^\| `(PAGESTATS_\w+)` \| (.+?) \| (.+) \|$", README, re.MULTILINE)
    assert table == [(setting.name, in_words(setting.default), setting.meaning) for setting in Settings.all()]


def test_the_readme_lists_each_reason_for_not_counting_a_hit():
    table = re.findall(r"^\| `([a-z_]+)` \| ([^|]+) \|$", README, re.MULTILINE)
    assert [row for row in table if row[0] in REASONS] == [(name, str(text)) for name, text in REASONS.items()]


def test_the_readme_lists_each_system_check():
    table = re.findall(r"^\| `pagestats\.([EW]\d+)` \| (.+) \|$", README, re.MULTILINE)
    assert table == [(name, check.when) for name, check in CHECKS.items()]


def test_the_readme_names_only_settings_that_exist():
    assert set(re.findall(r"PAGESTATS_[A-Z_]+", README)) <= {setting.name for setting in Settings.all()}


def test_the_readme_names_each_command_of_the_app_and_no_other():
    ours = {name for name, app in get_commands().items() if app == "pagestats"}
    named = set(re.findall(r"manage\.py (\w+)", README)) - {"migrate", "check", "qcluster", "remove_stale_contenttypes"}
    assert named == ours
    for name in ours:
        assert load_command_class("pagestats", name).help.strip()


@pytest.mark.parametrize("number", range(README.count("```python")))
def test_the_python_in_the_readme_compiles_and_its_imports_exist(number):
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[number]
    compile(code, "README.md", "exec")
    for line in re.findall(r"^from .*$", code, re.MULTILINE):
        exec(line, {})


def test_the_changelog_begins_with_the_version_of_the_package():
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE).group(1)
    assert f"## {version.partition('.dev')[0]}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_make_targets_in_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"`?make ([a-z-]+)`?", README)) - {"the"}
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_dimension_in_the_docs_is_the_one_that_the_tests_register(monkeypatch):
    registered = []
    monkeypatch.setattr("pagestats.dimensions.register", registered.append)
    text = (ROOT / "docs" / "architecture.md").read_text()
    exec(text.partition("```python\n")[2].partition("```")[0], {})
    (shown,) = registered
    for path in ("", "/", "/a", "/blog/a", "x", "//b"):
        assert shown.value_of(path) == A_SECTION.value_of(path)
    assert str(shown.expression(F("path"))) == str(A_SECTION.expression(F("path")))
