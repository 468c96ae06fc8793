"""Tables that only pagestats writes refuse writes by hand, and say what to do instead."""

import json
from datetime import date

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.core.management import call_command, get_commands

from pagestats.guarded import GuardedModel, WrittenByHand
from pagestats.models import Calendar, PageTotal, PageView, Return, Rollup, Seal, Visitor
from pagestats.recording import record_page_views
from pagestats.retention import prune
from pagestats.rollups import verify
from pagestats.rollups.recount import DAY
from tests import ROOT
from tests.factories import T0, a_hit
from tests.stored import everything

pytestmark = pytest.mark.django_db

GUARDED = [Visitor, PageTotal, Rollup, Return, Calendar, Seal]


def awaited(call, *args, **kwargs):
    """Return what an async method of a manager returns."""

    async def wait():
        return await call(*args, **kwargs)

    return async_to_sync(wait)()


WRITES = {
    "create": lambda rows: rows.create(),
    "get_or_create": lambda rows: rows.get_or_create(pk=None),
    "update_or_create": lambda rows: rows.update_or_create(pk=None),
    "bulk_create": lambda rows: rows.bulk_create([]),
    "update": lambda rows: rows.update(),
    "bulk_update": lambda rows: rows.bulk_update([], ["pk"]),
    "delete": lambda rows: rows.all().delete(),
    "acreate": lambda rows: awaited(rows.acreate),
    "aget_or_create": lambda rows: awaited(rows.aget_or_create, pk=None),
    "aupdate_or_create": lambda rows: awaited(rows.aupdate_or_create, pk=None),
    "abulk_create": lambda rows: awaited(rows.abulk_create, []),
    "aupdate": lambda rows: awaited(rows.aupdate),
    "abulk_update": lambda rows: awaited(rows.abulk_update, [], ["pk"]),
    "adelete": lambda rows: awaited(rows.all().adelete),
}


@pytest.fixture
def rows():
    """Fill all guarded tables, and return the rows of all tables."""
    days = range(-9, 3)
    record_page_views(a_hit(path=path, at=T0 + day * DAY) for day in days for path in ("/a", "/b"))
    list(prune(date(2026, 3, 10), at=T0 + 3 * DAY))
    assert all(model.objects.exists() for model in GUARDED)
    return everything()


def test_every_table_that_figures_depend_on_is_guarded():
    models = apps.get_app_config("pagestats").get_models()
    assert {model for model in models if issubclass(model, GuardedModel)} == set(GUARDED)


@pytest.mark.parametrize("model", GUARDED)
@pytest.mark.parametrize("write", WRITES)
def test_a_queryset_refuses_to_write(rows, model, write):
    for queryset in (model.objects, model._default_manager, model.objects.using("default")):
        with pytest.raises(WrittenByHand) as refused:
            WRITES[write](queryset)
    name = write.removeprefix("a")
    assert str(refused.value) == (
        f"{model.__name__}.objects.{name}() was refused: only pagestats writes the table {model._meta.db_table}, so"
        f" that its figures agree with the page views. {model.INSTEAD}"
    )
    assert everything() == rows


@pytest.mark.parametrize("model", GUARDED)
@pytest.mark.parametrize("write", ["save", "delete", "asave", "adelete"])
def test_a_row_refuses_to_be_written(rows, model, write):
    row = model.objects.first()
    call = getattr(row, write)
    with pytest.raises(WrittenByHand, match=rf"^{model.__name__}\.{write.removeprefix('a')}\(\) was refused: "):
        awaited(call) if write.startswith("a") else call()
    assert everything() == rows


@pytest.mark.parametrize("model", GUARDED)
def test_a_refusal_names_a_command_that_there_is(model):
    commands = [word.split("`")[0].split()[0] for word in model.INSTEAD.split("`manage.py ")[1:]]
    assert commands
    assert set(commands) <= {name for name, app in get_commands().items() if app == "pagestats"}


def test_only_the_writers_of_pagestats_use_the_unguarded_managers():
    package = ROOT / "pagestats"
    rooms = {
        path.relative_to(package).parts[0].removesuffix(".py")
        for path in package.rglob("*.py")
        if ".unguarded" in path.read_text()
    }
    assert rooms <= {"rollups", "retention"}


def test_a_fixture_brings_all_tables_back(rows, tmp_path):
    fixture = tmp_path / "fixture.json"
    call_command("dumpdata", "pagestats", output=str(fixture), verbosity=0)
    assert {row["model"] for row in json.loads(fixture.read_text())} >= {model._meta.label_lower for model in GUARDED}
    for model in (*GUARDED, PageView):
        getattr(model, "unguarded", model.objects).all().delete()
    call_command("loaddata", str(fixture), verbosity=0)
    assert {**everything(), "Run": rows["Run"]} == rows  # JSON cuts off the microseconds of runs
    assert list(verify()) == []


@pytest.mark.django_db(transaction=True)
def test_flush_empties_all_tables(rows):
    call_command("flush", interactive=False, verbosity=0)
    assert not any(model.objects.exists() for model in (*GUARDED, PageView))
    record_page_views([a_hit()])
    assert list(verify()) == []
