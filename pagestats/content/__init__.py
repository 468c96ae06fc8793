"""The site's own content: which models are its pages, at which paths they are, and what they are called.

- `sources`: the content sources of PAGESTATS_CONTENT, with the titles of paths and the paths of objects.
- `paths`: how a path is put together of a row's values, in Python and in SQL.
- `patterns`: the site's URL patterns.
- `expressions`: the SQL of texts that compare byte for byte, as paths do.
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
