"""Rollups: a pure function of the rolled-up page views, kept up to date by adding differences.

For one session, `cells` returns what its views add to each stored number. A writer that changes the rolled-up views of
a session holds the session's lock and adds `cells(after) - cells(before)`; nothing ever sets a number. Of the views
before, only those nearest to the changed ones are needed: everything else is in both terms and cancels out.
"""

from pagestats.rollups.adding import (
    VISITORS,
    Addition,
    SealedDay,
    add,
    addition,
    are_before_pruning,
    fix_reporting_zone,
    inserts,
    open_seals,
    refuse_sealed_days,
)
from pagestats.rollups.changing import (
    Done,
    Extent,
    chunk_size,
    extent,
    merge_paths,
    preview_merge,
    rebuild,
    refresh_page_totals,
    subtract_sessions,
    to_rebuild,
    where_zones_differ,
)
from pagestats.rollups.figures import Figure, cells
from pagestats.rollups.folding import (
    BackfillStatus,
    Progress,
    RebuildUnderWay,
    backfill,
    backfill_status,
    begin_backfill,
    fold,
    in_chunks,
    refuse_while_rebuilding,
)
from pagestats.rollups.verifying import (
    Drift,
    Slice,
    begin_verification,
    repair,
    slices,
    verification,
    verify,
)

__all__ = [
    "VISITORS",
    "Addition",
    "BackfillStatus",
    "Done",
    "Drift",
    "Extent",
    "Figure",
    "Progress",
    "RebuildUnderWay",
    "SealedDay",
    "Slice",
    "add",
    "addition",
    "are_before_pruning",
    "backfill",
    "backfill_status",
    "begin_backfill",
    "begin_verification",
    "cells",
    "chunk_size",
    "extent",
    "fix_reporting_zone",
    "fold",
    "in_chunks",
    "inserts",
    "merge_paths",
    "open_seals",
    "preview_merge",
    "rebuild",
    "refresh_page_totals",
    "refuse_sealed_days",
    "refuse_while_rebuilding",
    "repair",
    "slices",
    "subtract_sessions",
    "to_rebuild",
    "verification",
    "verify",
    "where_zones_differ",
]
