"""The steps that every candidate goes through: who is counted, on which paths, and under which session id."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus

from crawlerdetect import CrawlerDetect
from django.conf import settings

from pagestats.conf import conf
from pagestats.hits import Hit, instant, unstorable_in
from pagestats.identity import identify
from pagestats.intake.candidates import Candidate, Drop, not_a_page, shown

LONGEST_USER_AGENT = 300
"""How many characters of a user agent are searched for the name of a bot: the time grows with their square."""

BOT = Drop("bot")
OPT_OUT = Drop("opt_out")
PREFETCH = Drop("prefetch")
EXCLUDED = Drop("excluded")
STAFF = Drop("staff")
SHARED_RESPONSE = Drop("shared_response")


def drop_bot(candidate: Candidate) -> Drop | None:
    """Drop a bot that names itself in its user agent, and a client without a user agent."""
    return BOT if is_bot(candidate.request.META.get("HTTP_USER_AGENT", "")[:LONGEST_USER_AGENT]) else None


@lru_cache(maxsize=1024)
def is_bot(user_agent: str) -> bool:
    """Return whether a user agent is a bot's; an empty one is."""
    return not user_agent.strip() or bool(CrawlerDetect(user_agent=user_agent).isCrawler())


OPT_OUT_HEADERS = (("dnt", "HTTP_DNT"), ("gpc", "HTTP_SEC_GPC"))
"""The opt-out signals of PAGESTATS_OPT_OUTS, and the headers that send them with the value 1."""


def drop_opt_out(candidate: Candidate) -> Drop | None:
    """Drop the request of a browser that sends an opt-out signal which the site honours."""
    meta = candidate.request.META
    # The headers first: reading a setting costs more, and few requests have one of them.
    for name, header in OPT_OUT_HEADERS:
        if meta.get(header) == "1" and name in conf.OPT_OUTS:
            return OPT_OUT
    return None


SPECULATION_HEADERS = ("HTTP_SEC_PURPOSE", "HTTP_PURPOSE", "HTTP_X_MOZ")
SPECULATIONS = ("prefetch", "prerender", "preview")


def drop_prefetch(candidate: Candidate) -> Drop | None:
    """Drop what a browser fetched ahead of time: its user may never open the page."""
    meta = candidate.request.META
    for name in SPECULATION_HEADERS:
        if name in meta:
            purpose = candidate.header(name).lower()
            if any(speculation in purpose for speculation in SPECULATIONS):
                return PREFETCH
    return None


def drop_excluded(candidate: Candidate) -> Drop | None:
    """Drop a path that PAGESTATS_EXCLUDE lists, by its beginning or by the URL namespace of its page."""
    prefixes, namespaces = _sorted(tuple(conf.EXCLUDE))
    if prefixes and candidate.path.startswith(prefixes):
        return EXCLUDED
    if namespaces and (match := candidate.match) is not None:
        for names in (match.namespaces, match.app_names):
            if names and not namespaces.isdisjoint(names):
                return EXCLUDED
    return None


@lru_cache(maxsize=16)
def _sorted(places: tuple[str, ...]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the path prefixes and the URL namespaces among the entries of PAGESTATS_EXCLUDE."""
    prefixes = tuple(place for place in places if place.startswith("/"))
    return prefixes, frozenset(place.removesuffix(":") for place in places if place.endswith(":"))


def drop_invalid_path(candidate: Candidate) -> Drop | None:
    """Drop a path with characters that not every database can store."""
    return not_a_page("invalid_path", candidate.path) if unstorable_in(candidate.path) else None


def drop_staff(candidate: Candidate) -> Drop | None:
    """Drop staff members who are logged in, if the site leaves them out. May read the session from the database.

    Without a session cookie nobody is logged in, and the session isn't read.
    """
    if not conf.EXCLUDE_STAFF or settings.SESSION_COOKIE_NAME not in candidate.request.COOKIES:
        return None
    return STAFF if getattr(getattr(candidate.request, "user", None), "is_staff", False) else None


def identify_visitor(candidate: Candidate) -> Drop | None:
    """Find the session id by the site's identity, or drop the candidate with the reason that the identity gives.

    May wait: the first anonymous id of a day needs the day's salt from the database.
    """
    if candidate.at is None:
        candidate.at = instant(None)
    found = candidate.identified = identify(candidate.request, at=candidate.at, claimed=candidate.claimed)
    if found.session_id is not None:
        return None
    if found.reason == "bad_session_id":
        return Drop(
            found.reason,
            HTTPStatus.BAD_REQUEST,
            f"session_id is {shown(candidate.claimed)}, not 16 to 64 letters, digits, dots, underscores, tildes or"
            " hyphens.",
        )
    return Drop(found.reason)


def remember_visitor(candidate: Candidate) -> Drop | None:
    """Set the cookie of a new session id; drop the candidate if a shared cache may store the response.

    No later request would come with that id, so each page would count as a new visitor.
    """
    assert candidate.identified is not None
    return None if candidate.identified.remember(candidate.response) else SHARED_RESPONSE


def make_hit(candidate: Candidate) -> None:
    """Make the hit. Raise `InvalidHit` if an identity of the site's own gave a session id that can't be stored."""
    assert candidate.identified is not None
    assert candidate.identified.session_id is not None
    candidate.hit = Hit(path=candidate.path, session_id=candidate.identified.session_id, at=candidate.at)
