"""The table of the pages of a period: in whichever order, searched, and page by page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args
from urllib.parse import urlencode

from django.utils.translation import gettext as _

from pagestats.conf import LONGEST_SEARCH
from pagestats.formats import number
from pagestats.stats import Order, PageStat, Report

PER_PAGE = 50
MOST_PAGES = 100_000
COLUMNS: tuple[tuple[str, Order], ...] = (("value", "value"), ("views", "-views"), ("visitors", "-visitors"))
"""And the order in which a click sorts first."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which of the pages were asked for, as the address says it. What is no order or number is passed over."""

    order: Order = "-views"
    search: str = ""
    page: int = 1

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Asked:
        """Return what a query asks for."""
        order = next((known for known in get_args(Order) if known == query.get("order")), cls.order)
        page = query.get("p", "")
        return cls(
            order=order,
            search=query.get("q", "").strip().replace("\x00", "")[:LONGEST_SEARCH],
            page=min(max(int(page), 1), MOST_PAGES) if page.isascii() and page.isdigit() and len(page) < 7 else 1,
        )

    @property
    def offset(self) -> int:
        """How many pages stand before those that are shown."""
        return (self.page - 1) * PER_PAGE

    @property
    def query(self) -> dict[str, str]:
        """What stands for the order and the search in an address."""
        return {
            **({"q": self.search} if self.search else {}),
            **({"order": self.order} if self.order != "-views" else {}),
        }


def table(told: Report, asked: Asked, *, period: Mapping[str, str]) -> dict[str, Any]:
    """Return what the table of pages shows.

    Arguments:
        period: what stands for the period in an address.
    """
    most = max((row.views for row in told.rows), default=0)
    first, last = asked.offset + 1, asked.offset + len(told.rows)
    return {
        "rows": [
            {
                **_titled(told, row.value),
                "detail": urlencode({**period, "path": row.value}),
                "views": number(row.views),
                "visitors": "–" if row.visitors is None else number(row.visitors),
                # An attribute of SVG, the same in every language.
                "share": f"{100 * row.views / most:.2f}",
            }
            for row in told.rows
        ],
        "columns": {
            name: _column(name, first_order, asked, period)
            for name, first_order in COLUMNS
            if name != "visitors" or not told.reason
        },
        "search": asked.search,
        "hidden": [*period.items(), *((name, value) for name, value in asked.query.items() if name != "q")],
        "all": urlencode({**period, **Asked(order=asked.order).query}),
        "shown": _("%(first)s–%(last)s of %(total)s")
        % {"first": number(first), "last": number(last), "total": number(told.total_rows)}
        if told.rows
        else "",
        "total": told.total_rows,
        "reason": told.reason,
        "previous": _page(asked, asked.page - 1, period) if asked.page > 1 else "",
        "next": _page(asked, asked.page + 1, period) if last < told.total_rows else "",
    }


def _titled(told: Report, path: str) -> dict[str, str]:
    title, page_type = told.titles[path]
    page = PageStat(path, title, page_type, 0)
    return {"title": title, "path": path if path != title else "", "type": page_type, "href": page.href}


def _column(name: str, first: Order, asked: Asked, period: Mapping[str, str]) -> dict[str, str]:
    """Return what a heading that sorts shows: where a click leads, and how the rows are sorted by it now."""
    is_sorted = asked.order.removeprefix("-") == name
    other = name if first.startswith("-") else f"-{name}"
    order: Any = other if asked.order == first else first
    return {
        "query": urlencode({**period, **Asked(order=order, search=asked.search).query}),
        "sorted": ("descending" if asked.order.startswith("-") else "ascending") if is_sorted else "",
    }


def _page(asked: Asked, number: int, period: Mapping[str, str]) -> str:
    return urlencode({**period, **asked.query, "p": number})
