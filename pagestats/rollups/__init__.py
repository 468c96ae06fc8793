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
from pagestats.rollups.changing import merge_paths, preview_merge, refresh_page_totals, subtract_sessions
from pagestats.rollups.chunks import Progress, Scope, chunk_size, chunks, scope_of
from pagestats.rollups.figures import Figure, cells
from pagestats.rollups.folding import (
    BackfillStatus,
    RebuildUnderWay,
    backfill,
    backfill_status,
    begin_backfill,
    refuse_while_rebuilding,
    roll_up_pending,
)
from pagestats.rollups.rebuilding import preview_rebuild, rebuild, where_zones_differ
from pagestats.rollups.verification import begin_verification, verification
from pagestats.rollups.verifying import Drift, Slice, repair, slices, verify

__all__ = [
    "VISITORS",
    "Addition",
    "BackfillStatus",
    "Drift",
    "Figure",
    "Progress",
    "RebuildUnderWay",
    "Scope",
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
    "chunks",
    "fix_reporting_zone",
    "inserts",
    "merge_paths",
    "open_seals",
    "preview_merge",
    "preview_rebuild",
    "rebuild",
    "refresh_page_totals",
    "refuse_sealed_days",
    "refuse_while_rebuilding",
    "repair",
    "roll_up_pending",
    "scope_of",
    "slices",
    "subtract_sessions",
    "verification",
    "verify",
    "where_zones_differ",
]
