"""The order in which rows are locked, so that two writers never wait for each other in a ring.

Every transaction that writes locks rows in this order. It may leave tables out; it never goes back.

0. The calendar (`Calendar`), by a repair, a pruning and a rebuild, as the first statement. Recorders only read it: the
   guard of their write has its zone and seal as a condition. The first view of a site inserts it after locking its
   session, at a time when there is nothing for the others to lock.
1. The active session (`ActiveSession`) of a page view that comes with a heartbeat. A heartbeat alone is one statement.
2. The sessions (`Visitor`), sorted by id: by `lock_sessions`, as the first statement of a transaction, or by the guard
   of `write_if_unchanged`, which compares and raises the version. This is the lock of everything that is derived from
   one session, so two writers meet in the tables below only on rows that many sessions share.
3. The seals (`Seal`) that a late view opens.
4. The page totals (`PageTotal`), sorted by path.
5. The returns (`Return`), sorted by (dimension, value, previous day, day).
6. The rollups (`Rollup`), sorted by (dimension, value, day). The row of the whole site, which every writer of a day
   needs, is in the table that comes last, so that it is held for the shortest time.
7. The page views (`PageView`) that are new. Nobody else can wait for those. Stored ones belong to a locked session, and
   are changed at any point after 2.

A table that stands alone in its transaction (tallies, salts, runs) has no place here; many rows of one are sorted too.

The databases:

- SQLite has one writer at a time, and no rows are locked. A transaction must begin with a write: it then waits for its
  turn, while a read that turns into a write fails at once when somebody else wrote in between.
- PostgreSQL locks the rows that are written. In one statement that writes into several tables, parts that nothing
  reads from are carried out from the last to the first, and `writing` puts them the other way round. The lock of a
  whole table in `wait_for_writers` comes first in its transaction.
- MariaDB and MySQL lock index ranges too, and rows that an INSERT ... SELECT reads, such as the calendar's.
  `wait_for_writers` waits at each row, and gives up after a second at the latest.

A writer that is refused a lock or finds a deadlock starts its transaction again: see `retrying`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from django.db import models

from pagestats.models import ActiveSession, Calendar, PageTotal, PageView, Return, Rollup, Seal, Visitor

ORDER: tuple[type[models.Model], ...] = (
    Calendar,
    ActiveSession,
    Visitor,
    Seal,
    PageTotal,
    Return,
    Rollup,
    PageView,
)


def is_in_order(tables: Iterable[type[models.Model]]) -> bool:
    """Tell whether one statement after another may write into these tables, in this order."""
    return _is_in_order(tuple(tables))


@lru_cache
def _is_in_order(tables: tuple[type[models.Model], ...]) -> bool:
    if len(tables) < 2:
        return True
    return all(table in ORDER for table in tables) and [*tables] == sorted(tables, key=ORDER.index)
