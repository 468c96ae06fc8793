"""The steps from a request to a hit, in order. Every door uses this list, and no door judges by itself.

The order follows four rules:

1. What only looks at the request line, the status and headers comes first; then what reads a body; then what needs the
   path; then what may read the session, the database or the cache. A candidate is dropped as cheaply as it can be. The
   exception is the limit on how often a client may send, which has to count what later steps drop, too.
2. A person's wish and a robot's own word are judged before the body of a beacon is read: a dropped beacon of theirs is
   answered like any other, 204, whatever it says.
3. An excluded path comes before an invalid or unknown one, so that the answer to a beacon reveals nothing about paths
   that the site excludes.
4. The session id is found last, and remembered only after all else has passed: nobody who isn't counted gets a cookie.

Steps that may wait, for a database, a cache or a slow identity, never run on an event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from pagestats.intake import beacons, eligibility, served
from pagestats.intake.candidates import BEACONS, Candidate, Drop, Kind


class Step(NamedTuple):
    """One step: it adds to a candidate, or returns why the candidate is dropped."""

    name: str
    apply: Callable[[Candidate], Drop | None]
    kinds: Collection[Kind] = tuple(Kind)
    """The kinds of candidates that go through it."""
    may_wait: bool = False
    """Whether it may wait for something outside the process."""


PAGE = (Kind.PAGE,)

STEPS = (
    Step("method", served.drop_method, PAGE),
    Step("method", beacons.drop_method, BEACONS),
    Step("status", served.drop_status, PAGE),
    Step("document", served.drop_no_document, PAGE),
    Step("fragment", served.drop_fragment, PAGE),
    Step("no-store", served.drop_no_store, PAGE),
    Step("origin", beacons.drop_cross_origin, BEACONS),
    Step("rate", beacons.drop_throttled, BEACONS, may_wait=True),
    Step("bot", eligibility.drop_bot),
    Step("opt-out", eligibility.drop_opt_out),
    Step("prefetch", eligibility.drop_prefetch),
    Step("length", beacons.drop_length, BEACONS),
    Step("media type", beacons.drop_media_type, BEACONS),
    Step("body", beacons.read_body, BEACONS),
    Step("path", served.read_path, PAGE),
    Step("excluded path", eligibility.drop_excluded),
    Step("invalid path", eligibility.drop_invalid_path),
    Step("unknown path", beacons.drop_unknown_path, BEACONS),
    Step("staff", eligibility.drop_staff, may_wait=True),
    Step("identity", eligibility.identify_visitor, may_wait=True),
    Step("remember", eligibility.remember_visitor),
    Step("new session id", beacons.drop_new_session_id, (Kind.HEARTBEAT,)),
    Step("hit", eligibility.make_hit),
    Step("new path", beacons.drop_new_path, BEACONS, may_wait=True),
)
