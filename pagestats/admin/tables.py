"""The tables of pages and of other dimensions: in any order, searched, and page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args
from urllib.parse import urlencode

from django.utils.translation import gettext as _

from pagestats.conf import LONGEST_SEARCH
from pagestats.days import Moment
from pagestats.dimensions import PAGE, Dimension, with_rows
from pagestats.formats import number
from pagestats.stats import Order, PageStat, Report, Rows, report_rows

PER_PAGE = 50
PER_PANEL = 10
LAST_PAGE = 100_000
COLUMNS: tuple[tuple[str, Order], ...] = (("value", "value"), ("views", "-views"), ("visitors", "-visitors"))
"""The columns that sort, and the order in which a click sorts first."""


@dataclass(frozen=True, kw_only=True)
class RowsQuery:
    """Which rows the address asks for. Anything in it that is not an order or a number is ignored."""

    order: Order = "-views"
    search: str = ""
    page: int = 1

    @classmethod
    def of(cls, query: Mapping[str, str]) -> RowsQuery:
        """Return what a query asks for."""
        order = next((known for known in get_args(Order) if known == query.get("order")), cls.order)
        page = query.get("p", "")
        return cls(
            order=order,
            search=query.get("q", "").strip().replace("\x00", "")[:LONGEST_SEARCH],
            page=min(max(int(page), 1), LAST_PAGE) if page.isascii() and page.isdigit() and len(page) < 7 else 1,
        )

    @property
    def offset(self) -> int:
        """How many rows come before those that are shown."""
        return (self.page - 1) * PER_PAGE

    @property
    def query(self) -> dict[str, str]:
        """The order and the search as parts of an address."""
        return {
            **({"q": self.search} if self.search else {}),
            **({"order": self.order} if self.order != "-views" else {}),
        }


def dimensions_by_table() -> dict[str, Dimension]:
    """Return the dimensions that have a table, by its name in addresses."""
    return {"pages" if dimension is PAGE else dimension.name: dimension for dimension in _with_tables()}


def _with_tables() -> Iterator[Dimension]:
    return (dimension for dimension in with_rows() if dimension.is_rolled_up)


def page_table(report: Report, asked: RowsQuery, *, period: Mapping[str, str]) -> dict[str, Any]:
    """Return what the table of pages shows.

    Args:
        period: the period as parts of an address.
    """
    first, last = asked.offset + 1, asked.offset + len(report.rows)
    return {
        "rows": [
            {**row, **_page_of(report, row["value"]), "detail": urlencode({**period, "path": row["value"]})}
            for row in _rows(report)
        ],
        "columns": {
            name: _column(name, first_order, asked, period)
            for name, first_order in COLUMNS
            if name != "visitors" or not report.reason
        },
        "search": asked.search,
        "hidden": [*period.items(), *((name, value) for name, value in asked.query.items() if name != "q")],
        "all": urlencode({**period, **RowsQuery(order=asked.order).query}),
        "shown": _("%(first)s–%(last)s of %(total)s")
        % {"first": number(first), "last": number(last), "total": number(report.total_rows)}
        if report.rows
        else "",
        "total": report.total_rows,
        "reason": _translated(report.reason),
        "previous": _turn(asked, asked.page - 1, period) if asked.page > 1 else "",
        "next": _turn(asked, asked.page + 1, period) if last < report.total_rows else "",
    }


def panels(read: Callable[[Dimension], Rows], csv: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the table of each dimension but the pages: its most viewed values.

    Args:
        read: reads the rows of a dimension.
        csv: the address of each table as CSV.
    """
    found = []
    for name, dimension in dimensions_by_table().items():
        if dimension is PAGE:
            continue
        rows = read(dimension)
        found.append(
            {
                "name": name,
                "label": dimension.label,
                "rows": _rows(rows),
                "csv": csv[name],
                "more": number(rows.total_rows - len(rows.rows)) if rows.total_rows > len(rows.rows) else "",
                "reason": _translated(rows.reason),
            }
        )
    return found


def rows_reader(start: Any, end: Any, moment: Moment) -> Callable[[Dimension], Rows]:
    """Return a function that reads the most viewed values of a dimension in a range."""
    return lambda dimension: report_rows(start, end, dimension=dimension.name, limit=PER_PANEL, moment=moment)


def _rows(rows: Report | Rows) -> list[dict[str, str]]:
    most = max((row.views for row in rows.rows), default=0)
    return [
        {
            "value": row.value,
            "title": rows.titles[row.value].title,
            "views": number(row.views),
            "visitors": "–" if row.visitors is None else number(row.visitors),
            "share": f"{100 * row.views / most:.2f}",  # an attribute of SVG, the same in every language
        }
        for row in rows.rows
    ]


def _page_of(report: Report, path: str) -> dict[str, str]:
    title, page_type = report.titles[path]
    page = PageStat(path, title, page_type, 0)
    return {"path": path if path != title else "", "type": page_type, "href": page.href}


def _translated(reason: str) -> str:
    return getattr(reason, "translated", reason)


def _column(name: str, first: Order, asked: RowsQuery, period: Mapping[str, str]) -> dict[str, str]:
    """Return what a heading that sorts shows: where a click leads, and how the rows are sorted by it now."""
    is_sorted = asked.order.removeprefix("-") == name
    other = name if first.startswith("-") else f"-{name}"
    order: Any = other if asked.order == first else first
    return {
        "query": urlencode({**period, **RowsQuery(order=order, search=asked.search).query}),
        "sorted": ("descending" if asked.order.startswith("-") else "ascending") if is_sorted else "",
    }


def _turn(asked: RowsQuery, page: int, period: Mapping[str, str]) -> str:
    return urlencode({**period, **asked.query, "p": page})
