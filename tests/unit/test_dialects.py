"""Only `sql/dialects.py` knows in what the databases differ."""

import re
from pathlib import Path

import pytest

import pagestats
from pagestats.sql.dialects import DIALECTS

PACKAGE = Path(pagestats.__file__).parent
EXCEPTIONS = {
    "sql/dialects.py": "the home of the rule",
    "sql/cursors.py": "imports Django's backend for PostgreSQL only where psycopg is installed",
    "fields.py": "a field's collation, which models need, and models are below sql",
    "content/expressions.py": "expressions of Django's own, which dispatch on the vendor themselves",
}


def test_nothing_else_asks_for_the_vendor_of_a_connection():
    asking = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if re.search(r"\.vendor\b|mysql_is_mariadb", path.read_text())
    }
    assert asking == set(EXCEPTIONS)


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_has_every_word(name):
    dialect = DIALECTS[name]
    assert dialect.differ("a", "b") != dialect.differ("b", "a")
    assert "seconds" in dialect.day_at_offset("at", 3600).lower() or "SECOND" in dialect.day_at_offset("at", 3600)
    assert dialect.quoted("day")[0] == dialect.quoted("day")[-1]
    assert dialect.on_conflict(["a"]).endswith(" UPDATE SET ") or dialect.on_conflict(["a"]).endswith(" UPDATE ")


def test_mysql_differs_from_mariadb_in_its_upsert_and_its_lock_alone():
    mysql, mariadb = DIALECTS["mysql"], DIALECTS["mariadb"]
    assert isinstance(mysql, type(mariadb))
    assert set(vars(type(mysql))) - {"__module__", "__doc__", "__firstlineno__", "__static_attributes__"} == {
        "incoming",
        "on_conflict",
        "wait_for_writers",
    }
