"""The section *Health* of the page *Page stats*."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.utils.translation import gettext_lazy, ngettext

from pagestats import tallies
from pagestats.days import YEARS
from pagestats.formats import number
from pagestats.models import Run
from pagestats.runs import VerifyResult
from pagestats.stats import Health, Tallied

OUTCOMES = {
    tallies.RECORDED: gettext_lazy("Recorded"),
    tallies.REPEAT: gettext_lazy("Repeats"),
    tallies.NOT_STORED: gettext_lazy("Not recorded"),
    tallies.FAILED: gettext_lazy("Failed"),
}
REASONS = {
    "bad_host": gettext_lazy("Host not in ALLOWED_HOSTS"),
    "bad_session_id": gettext_lazy("Invalid session ID"),
    "bot": gettext_lazy("Bot"),
    "cross_origin": gettext_lazy("Sent from another site"),
    "excluded": gettext_lazy("Excluded by PAGESTATS_EXCLUDE"),
    "fragment": gettext_lazy("Part of a page, requested by a script or a frame"),
    "invalid_body": gettext_lazy("Invalid body sent to the API"),
    "invalid_path": gettext_lazy("Path that can’t be stored"),
    "length_required": gettext_lazy("Sent to the API without Content-Length"),
    "method": gettext_lazy("Not a GET request"),
    "method_not_allowed": gettext_lazy("Wrong method (POST required)"),
    "new_paths": gettext_lazy("Too many new paths from one client"),
    "new_session_id": gettext_lazy("No cookie yet: counted once the browser returns it"),
    "no_address": gettext_lazy("No client address"),
    "no_document": gettext_lazy("Not a page: an image, a download, data"),
    "no_session_id": gettext_lazy("No session ID from the browser"),
    "no_store": gettext_lazy("Answered with no-store"),
    "opt_out": gettext_lazy("Opted out"),
    "prefetch": gettext_lazy("Prefetched, maybe never seen"),
    "shared_response": gettext_lazy("No cookie yet, on a page for shared caches"),
    "staff": gettext_lazy("Staff"),
    "status": gettext_lazy("Redirect or error"),
    "suspicious": gettext_lazy("Sent to the API unlike any browser"),
    "throttled": gettext_lazy("Sent to the API too often"),
    "too_large": gettext_lazy("Too large a body sent to the API"),
    "unknown_path": gettext_lazy("Path not found on this site"),
    "unsupported_media_type": gettext_lazy("Wrong Content-Type sent to the API"),
}


def health_section(state: Health) -> dict[str, Any]:
    """Return what the section shows."""
    return {
        "outcomes": [outcome(key, label, state.tallied) for key, label in OUTCOMES.items()] if state.tallied else [],
        "pending": number(state.pending) if state.pending else "",
        "stranded": number(state.stranded) if state.stranded else "",
        "first_year": YEARS.start,
        "last_year": YEARS.stop - 1,
        "last_cleanup": state.last_cleanup,
        "last_cleanup_deleted": number(state.last_cleanup.processed) if state.last_cleanup else "",
        "last_backfill": state.last_backfill,
        "last_backfill_processed": number(state.last_backfill.processed) if state.last_backfill else "",
        **verified(state.last_verify),
    }


def verified(run: Run | None) -> dict[str, Any]:
    """Return what the entry on the last verification shows."""
    if run is None:
        return {"last_verify": None, "drift": "", "sealed_before": None}
    result = VerifyResult.of(run)
    drift = result.drift
    return {
        "last_verify": run,
        "drift": drift
        and ngettext("%(count)s figure differs", "%(count)s figures differ", drift) % {"count": number(drift)},
        "sealed_before": result.sealed_before,
    }


def outcome(key: str, label: Any, tallied: Iterable[Tallied]) -> dict[str, Any]:
    """Return the row of an outcome, and those of its reasons."""
    rows = [row for row in tallied if row.outcome == key]
    last_days = sum(row.last_days for row in rows)
    return {
        "label": label,
        "alarm": key == tallies.FAILED and last_days > 0,
        "today": number(sum(row.today for row in rows)),
        "last_days": number(last_days),
        "reasons": [
            {
                # A reason without a text here is shown by its name, such as that of an exception.
                "label": REASONS.get(row.reason, row.reason),
                "today": number(row.today),
                "last_days": number(row.last_days),
            }
            for row in rows
            if row.reason
        ],
    }
