"""Rollups: a pure function of the rolled-up page views, kept by adding differences.

For one session, `cells` gives what its views add to each stored figure. Whoever changes the rolled-up views of a
session holds the lock of the session and adds `cells(after) - cells(before)`; nothing ever sets a figure. Of the views
before, only the nearest ones are needed: what two views have in common with all others cancels out.
"""

from pagestats.rollups.adding import VISITORS, Addition, SealedDay, add, addition, inserts, refuse_sealed_days
from pagestats.rollups.changing import (
    Done,
    Extent,
    chunk_size,
    extent,
    merge_paths,
    rebuild,
    settle_totals,
    take_off,
    to_merge,
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
    "backfill",
    "backfill_status",
    "begin_backfill",
    "begin_verification",
    "cells",
    "chunk_size",
    "extent",
    "fold",
    "in_chunks",
    "inserts",
    "merge_paths",
    "rebuild",
    "refuse_sealed_days",
    "refuse_while_rebuilding",
    "repair",
    "settle_totals",
    "slices",
    "take_off",
    "to_merge",
    "to_rebuild",
    "verification",
    "verify",
    "where_zones_differ",
]
