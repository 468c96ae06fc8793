"""The parameters of a request to the API, checked. Each function raises `ParseError`, a 400, for an invalid one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any, get_args

from rest_framework.exceptions import ParseError

from pagestats import dimensions
from pagestats.conf import LONGEST_SEARCH
from pagestats.intake import shown
from pagestats.stats import By, Order

DEFAULT_LIMIT = 100
MOST_LIMIT = 1000
MOST_OFFSET = 1_000_000

Query = Mapping[str, str]


def read_limit(query: Query) -> int:
    """Return the most rows that a list may have."""
    return _read_number(query, "limit", default=DEFAULT_LIMIT, most=MOST_LIMIT)


def read_report(query: Query) -> dict[str, Any]:
    """Return the arguments for `stats.report`."""
    return {
        "start": _read_day(query, "start"),
        "end": _read_day(query, "end"),
        "dimension": _read_choice(query, "dimension", *(dimension.name for dimension in dimensions.with_rows())),
        "value": query.get("value"),
        "limit": read_limit(query),
        "offset": _read_number(query, "offset", default=0, most=MOST_OFFSET),
        "search": _read_search(query),
        "order": _read_choice(query, "order", *get_args(Order)) or "-views",
        "by": _read_choice(query, "by", *get_args(By)) or "day",
        "compare": _read_choice(query, "compare", "true", "false") == "true",
    }


def _read_number(query: Query, name: str, *, default: int, most: int) -> int:
    number = query.get(name, f"{default}")
    if not re.fullmatch("[0-9]{1,9}", number) or int(number) > most:
        raise ParseError(f"{name} is {shown(number)}, not a whole number from 0 to {most}.")
    return int(number)


def _read_day(query: Query, name: str) -> date:
    if name not in query:
        raise ParseError(f"{name} is missing. Give a reporting day, such as 2026-01-31.")
    try:
        if not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", query[name]):
            raise ValueError
        return date.fromisoformat(query[name])
    except ValueError:
        raise ParseError(f"{name} is {shown(query[name])}, not a day, such as 2026-01-31.") from None


def _read_choice(query: Query, name: str, *choices: str) -> str | None:
    if name in query and query[name] not in choices:
        raise ParseError(f"{name} is {shown(query[name])}. Use {' or '.join(choices)}.")
    return query.get(name)


def _read_search(query: Query) -> str:
    text = query.get("search", "")
    if len(text) > LONGEST_SEARCH:
        raise ParseError(f"search is {len(text)} characters long, over {LONGEST_SEARCH}.")
    return text
