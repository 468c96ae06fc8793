"""The main job on a real log: what `pagestats` counts is what a separate simple script counts."""

import os
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db.models import Sum
from django.http import HttpResponse
from django.test import RequestFactory

from pagestats.hits import Hit
from pagestats.identity import day_salts
from pagestats.middleware import PageViewMiddleware
from pagestats.models import PageView, Tally
from pagestats.recording import record_page_views
from pagestats.stats import snapshot
from pagestats.tallies import tallies
from tests import count_access_log, tally_access_log
from tests.count_access_log import Counts, Request
from tests.factories import raw_views

LOG = Path(
    os.environ.get("PAGESTATS_ACCESS_LOG")
    or Path(__file__).resolve().parents[3] / "shared/data/semicomplete-access.log.gz"
)

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(
        not LOG.exists(),
        reason=f"There is no access log at {LOG}. Name another (gzip, combined format) in PAGESTATS_ACCESS_LOG.",
    ),
]


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    found = list(count_access_log.requests(LOG))
    assert len(found) > len(count_access_log.without_repeats(found)) > 0, f"{LOG} has no views, or no repeats."
    return found


def counted() -> Counts:
    """Return what `pagestats` shows, in the script's shape."""
    shown = snapshot()
    views_by_path = {page.path: page.views for page in shown.page_stats}
    assert shown.total_paths == len(shown.page_stats) == len(views_by_path)
    return Counts(shown.total_page_views, shown.unique_visitors, views_by_path)


def test_a_log_stored_as_raw_rows_counts_every_row_before_and_after_backfill(requests: list[Request]) -> None:
    every = count_access_log.count(requests)
    raw_views(requests)
    assert PageView.objects.pending().count() == every.views
    assert counted() == every

    out = StringIO()
    call_command("backfill_aggregates", verbosity=0, stdout=out)

    assert f"{every.views:,} page views with {every.visitors:,} new visitors" in out.getvalue()
    assert not PageView.objects.pending().exists()
    assert counted() == every
    assert snapshot().tracking_since == min(request.at for request in requests)


def test_a_log_recorded_live_counts_by_the_half_hour_rule(requests: list[Request]) -> None:
    kept = count_access_log.count(count_access_log.without_repeats(requests))

    stored = record_page_views(
        Hit(path=request.path, session_id=request.session_id, at=request.at) for request in requests
    )

    assert stored == kept.views
    assert counted() == kept
    assert not PageView.objects.pending().exists()
    assert snapshot().tracking_since == min(request.at for request in requests)


def test_a_log_replayed_through_the_middleware_counts_as_a_simple_script_does() -> None:
    day_salts.clear()
    every = list(tally_access_log.lines(LOG))
    expected = tally_access_log.tally(iter(every))
    served: HttpResponse = HttpResponse()
    serve = PageViewMiddleware(lambda request: served)
    for line in every:
        kind = "application/octet-stream" if line.is_asset else "text/html"
        served = HttpResponse(status=line.status, content_type=kind)
        headers = {"user-agent": line.agent, "accept": "*/*" if line.is_asset else "text/html"}
        request = RequestFactory().generic(line.method, line.target, REMOTE_ADDR=line.address, headers=headers)
        assert serve(request) is served
    tallies.write()

    stored = Tally.objects.values_list("outcome", "reason").annotate(total=Sum("count"))
    assert {(outcome, reason): total for outcome, reason, total in stored} == expected
    assert expected["recorded", ""] > expected["repeat", ""] > 0
    assert snapshot().total_page_views == PageView.objects.count() == expected["recorded", ""]
