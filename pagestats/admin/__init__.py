"""The admin: the page *Page stats*, and read-only lists of the raw rows."""

from pagestats.admin.raw_lists import ActiveSessionAdmin, PageViewAdmin, RawListAdmin
from pagestats.admin.stats_page import StatsAdmin

__all__ = ["ActiveSessionAdmin", "PageViewAdmin", "RawListAdmin", "StatsAdmin"]
