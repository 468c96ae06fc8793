"""The admin: the page *Page stats*, and read-only lists of the raw rows."""

from pagestats.admin.facts import ActiveSessionAdmin, FactAdmin, PageViewAdmin
from pagestats.admin.stats_page import StatsAdmin

__all__ = ["ActiveSessionAdmin", "FactAdmin", "PageViewAdmin", "StatsAdmin"]
