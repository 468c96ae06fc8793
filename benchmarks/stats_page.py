"""Measure how long the server takes to render the admin's *Page stats*."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

from benchmarks import traffic
from benchmarks.measures import timed

DAYS = 3 * 365 + 1


def stats_page(*, count: int) -> dict[str, float]:
    """Milliseconds with so many views of 1,000 pages over three years."""
    from django.contrib.auth.models import User
    from django.test import Client

    from pagestats.hits import instant

    today = instant(None).astimezone(UTC).date()
    start = today - timedelta(days=DAYS - 1)
    traffic.store(count, days=DAYS, begin=datetime.combine(start, time(), UTC))
    client = Client()
    client.force_login(User.objects.create_superuser("reader"))
    years = {"period": "custom", "start": f"{start}", "end": f"{today}"}

    def milliseconds(address: str, query: dict[str, Any]) -> float:
        def work() -> None:
            response = client.get(f"/admin/pagestats/stats/{address}", query)
            assert response.status_code == 200

        work()  # warm up what a process does once
        return timed(work)

    return {
        "30 days": milliseconds("", {}),
        "three years": milliseconds("", years),
        "three years, by visitors": milliseconds("", {**years, "order": "-visitors"}),
        "three years, a search": milliseconds("", {**years, "q": "99"}),
        "one page, three years": milliseconds("page/", {**years, "path": traffic.path(0)}),
        "who is here now": milliseconds("active/", {}),
    }
