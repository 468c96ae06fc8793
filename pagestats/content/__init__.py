"""The site's own content: which of its models are pages, the paths of their rows, and the titles of paths.

- `sources`: the content sources of PAGESTATS_CONTENT, with the titles of paths and the paths of objects.
- `paths`: how a path is built from the values of a row, in Python and in SQL.
- `patterns`: the site's URL patterns: which view a path leads to, and which path values lead to.
- `expressions`: SQL expressions of text that compares byte for byte, as paths do.
- `faults`: what is wrong with PAGESTATS_CONTENT, for the system checks.
"""

from pagestats.content.faults import find_faults
from pagestats.content.paths import is_client_path
from pagestats.content.patterns import Undecided
from pagestats.content.sources import (
    FIXED,
    Source,
    Titled,
    configured_sources,
    path_expression,
    path_of,
    published_counts,
    sources_of,
    titles,
)

__all__ = [
    "FIXED",
    "Source",
    "Titled",
    "Undecided",
    "configured_sources",
    "find_faults",
    "is_client_path",
    "path_expression",
    "path_of",
    "published_counts",
    "sources_of",
    "titles",
]
