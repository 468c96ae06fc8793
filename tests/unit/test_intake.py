"""The steps from a request to a hit: each by itself, their order, and what is counted at their end."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace

import pytest
from asgiref.sync import async_to_sync
from django.core.cache import cache
from django.http import HttpResponse, UnreadablePostError
from django.test import RequestFactory

from pagestats.hits import InvalidHit
from pagestats.identity import Identified
from pagestats.intake import (
    STEPS,
    Candidate,
    Drop,
    Kind,
    beacons,
    candidates,
    eligibility,
    served,
    steps_of,
    take,
    take_async,
    throttling,
)
from pagestats.tallies import tallies
from tests.agents import CHROME, GOOGLEBOT
from tests.factories import T0

BEACONS = (Kind.PAGE_VIEW, Kind.HEARTBEAT)


def somebody(request, *, at, claimed):
    return request.META.get("HTTP_X_WHO", "somebody")


somebody.lifetime = "lasting"


@pytest.fixture(autouse=True)
def a_site_without_a_database(settings):
    settings.PAGESTATS_IDENTITY = f"{__name__}.somebody"


def a_candidate(kind=Kind.PAGE, *, body=b'{"path": "/"}', response=None, path="/", method=None, meta=(), **headers):
    method = method or ("GET" if kind is Kind.PAGE else "POST")
    request = RequestFactory().generic(
        method,
        path,
        b"" if kind is Kind.PAGE else body,
        content_type="application/json",
        headers={"user-agent": CHROME, "sec-fetch-site": "same-origin", **headers},
        **dict(meta),
    )
    return Candidate(request=request, response=response or HttpResponse(), kind=kind, at=T0)


def reason(step, candidate):
    drop = step(candidate)
    return drop and drop.reason


def status(step, candidate):
    drop = step(candidate)
    return drop and drop.status


# The order


def names(kind):
    return [step.name for step in steps_of(kind)]


def test_the_steps_of_each_kind_are_in_the_order_of_the_one_list():
    shared = [step.name for step in STEPS if len(step.kinds) == len(Kind)]
    assert shared == [
        "bot",
        "opt-out",
        "prefetch",
        "excluded path",
        "invalid path",
        "staff",
        "identity",
        "remember",
        "hit",
    ]
    for kind in Kind:
        assert [name for name in names(kind) if name in shared] == shared
        assert len(set(names(kind))) == len(names(kind))


def test_what_may_wait_comes_after_all_that_can_drop_a_page_without_waiting():
    steps = steps_of(Kind.PAGE)
    first = next(number for number, step in enumerate(steps) if step.may_wait)
    assert [step.name for step in steps[first:]] == ["staff", "identity", "remember", "hit"]
    assert [step.name for step in STEPS if step.may_wait] == ["rate", "staff", "identity", "new path"]


PAGES_WITH_TWO_FAULTS = [
    ("method", {"method": "POST", "user-agent": GOOGLEBOT}),
    ("status", {"response": HttpResponse(status=404), "user-agent": GOOGLEBOT}),
    ("no_store", {"response": HttpResponse(headers={"Cache-Control": "no-store"}), "path": "/admin/"}),
    ("bot", {"user-agent": GOOGLEBOT, "path": "/admin/"}),
    ("bot", {"user-agent": GOOGLEBOT, "sec-purpose": "prefetch"}),
    ("prefetch", {"sec-purpose": "prefetch", "path": "/admin/"}),
    ("excluded", {"path": "/admin/%00"}),
    ("invalid_path", {"path": "/a%00", "x-who": ""}),
]
BEACONS_WITH_TWO_FAULTS = [
    ("method_not_allowed", {"method": "GET", "sec-fetch-site": "cross-site"}),
    ("cross_origin", {"sec-fetch-site": "cross-site", "user-agent": GOOGLEBOT}),
    ("bot", {"user-agent": GOOGLEBOT, "body": b"{"}),
    ("bot", {"user-agent": GOOGLEBOT, "body": b'{"path": "/admin/"}'}),
    ("too_large", {"body": b"{" * 5000}),
    ("excluded", {"body": b'{"path": "/admin/%00"}'}),
    ("invalid_path", {"body": b'{"path": "/nowhere/%00"}'}),
    ("unknown_path", {"body": b'{"path": "/nowhere/"}', "x-who": ""}),
]


@pytest.mark.parametrize(("reason", "changes"), PAGES_WITH_TWO_FAULTS)
def test_a_page_with_two_faults_is_dropped_for_the_first(settings, reason, changes):
    settings.PAGESTATS_EXCLUDE = ["/admin/"]
    assert take(a_candidate(**changes)).reason == reason
    assert tallies.counts() == {("not_stored", reason): 1}


@pytest.mark.parametrize("kind", BEACONS)
@pytest.mark.parametrize(("reason", "changes"), BEACONS_WITH_TWO_FAULTS)
def test_a_beacon_with_two_faults_is_dropped_for_the_first(settings, kind, reason, changes):
    settings.PAGESTATS_EXCLUDE = ["/admin/"]
    assert take(a_candidate(kind, **changes)).reason == reason
    assert tallies.counts() == {("not_stored", reason): 1}


def test_staff_with_an_invalid_beacon_learn_what_is_wrong_without_a_look_at_the_session(settings):
    settings.PAGESTATS_EXCLUDE_STAFF = True
    candidate = a_candidate(Kind.PAGE_VIEW, body=b"{", cookie="sessionid=a")
    type(candidate.request).user = property(lambda request: pytest.fail("it may be read from the database"))
    try:
        assert take(candidate).status == 400
    finally:
        del type(candidate.request).user


# Every candidate


@pytest.mark.parametrize(("user_agent", "is_bot"), [(CHROME, False), (GOOGLEBOT, True), ("", True), (" ", True)])
def test_a_bot_is_known_by_its_own_word(user_agent, is_bot):
    assert reason(eligibility.drop_bot, a_candidate(**{"user-agent": user_agent})) == ("bot" if is_bot else None)


@pytest.mark.parametrize(("header", "name"), [("dnt", "dnt"), ("sec-gpc", "gpc")])
@pytest.mark.parametrize(("value", "is_dropped"), [("1", True), ("0", False), ("", False), ("11", False)])
def test_an_opt_out_is_honoured_where_the_site_says_so(settings, header, name, value, is_dropped):
    candidate = a_candidate(**{header: value})
    assert reason(eligibility.drop_opt_out, candidate) is None
    settings.PAGESTATS_OPT_OUTS = [name]
    assert reason(eligibility.drop_opt_out, candidate) == ("opt_out" if is_dropped else None)


@pytest.mark.parametrize("header", ["sec-purpose", "purpose", "x-moz"])
@pytest.mark.parametrize("value", ["prefetch", "Prefetch;Prerender", "preview", "a, prerender"])
def test_what_is_fetched_ahead_is_dropped(header, value):
    assert reason(eligibility.drop_prefetch, a_candidate(**{header: value})) == "prefetch"
    assert reason(eligibility.drop_prefetch, a_candidate(**{header: "else"})) is None


@pytest.mark.parametrize(
    ("path", "namespaces", "is_dropped"),
    [
        ("/private/a", [], True),
        ("/privateer", [], False),
        ("/a", ["admin"], True),
        ("/a", ["outer", "admin"], True),
        ("/a", ["administrator"], False),
    ],
)
@pytest.mark.parametrize("by", ["namespaces", "app_names"])
def test_a_path_is_excluded_by_its_beginning_or_its_namespace(settings, path, namespaces, is_dropped, by):
    settings.PAGESTATS_EXCLUDE = ["/private/", "admin:"]
    candidate = a_candidate()
    candidate.path = path
    candidate.request.resolver_match = SimpleNamespace(**{"namespaces": [], "app_names": [], by: namespaces})
    assert reason(eligibility.drop_excluded, candidate) == ("excluded" if is_dropped else None)


@pytest.mark.parametrize(("path", "is_dropped"), [("/é", False), ("/\x00", True), ("/\ud800", True)])
def test_a_path_that_no_database_can_store_is_dropped(path, is_dropped):
    candidate = a_candidate()
    candidate.path = path
    drop = eligibility.drop_invalid_path(candidate)
    assert (drop and (drop.reason, drop.status)) == (("invalid_path", 404) if is_dropped else None)


@pytest.mark.parametrize("excludes", [True, False])
@pytest.mark.parametrize("has_cookie", [True, False])
@pytest.mark.parametrize("is_staff", [True, False])
def test_staff_are_dropped_where_the_site_says_so(settings, excludes, has_cookie, is_staff):
    settings.PAGESTATS_EXCLUDE_STAFF = excludes
    candidate = a_candidate(**({"cookie": "sessionid=a"} if has_cookie else {}))
    candidate.request.user = SimpleNamespace(is_staff=is_staff)
    dropped = reason(eligibility.drop_staff, candidate) == "staff"
    assert dropped == (excludes and has_cookie and is_staff)


def test_the_identity_gives_the_session_id_or_the_reason(settings):
    candidate = a_candidate()
    assert eligibility.identify_visitor(candidate) is None
    assert candidate.identified == Identified(session_id="somebody")
    assert reason(eligibility.identify_visitor, a_candidate(**{"x-who": ""})) == "no_session_id"


def test_an_instant_is_found_only_where_it_is_needed():
    candidate = a_candidate()
    candidate.at = None
    eligibility.identify_visitor(candidate)
    assert candidate.at.tzinfo is not None


def test_an_invalid_session_id_of_a_browser_is_an_error(settings):
    settings.PAGESTATS_IDENTITY = "client"
    candidate = a_candidate(Kind.PAGE_VIEW)
    candidate.claimed = "short"
    drop = eligibility.identify_visitor(candidate)
    assert (drop.reason, drop.status, drop.detail[:21]) == ("bad_session_id", 400, "session_id is 'short'")


def test_a_new_id_on_a_response_for_everybody_is_dropped():
    candidate = a_candidate()
    candidate.identified = SimpleNamespace(remember=lambda response: response is not candidate.response)
    assert reason(eligibility.remember_visitor, candidate) == "shared_response"


def test_the_hit_is_of_the_path_and_the_session():
    candidate = a_candidate()
    candidate.path, candidate.identified = "/a", Identified(session_id="s")
    assert eligibility.make_hit(candidate) is None
    assert (candidate.hit.path, candidate.hit.session_id, candidate.hit.at) == ("/a", "s", T0)
    candidate.identified = Identified(session_id="\x00")
    with pytest.raises(InvalidHit):
        eligibility.make_hit(candidate)


# Pages: what else the steps drop is in tests/db/test_middleware.py, by way of the middleware


@pytest.mark.parametrize(("method", "is_page"), [("GET", True), ("HEAD", False), ("POST", False)])
def test_only_a_get_is_a_page(method, is_page):
    assert reason(served.drop_method, a_candidate(method=method)) == (None if is_page else "method")


@pytest.mark.parametrize(("code", "is_page"), [(200, True), (304, True), (206, False), (302, False), (404, False)])
def test_redirects_and_errors_are_no_pages(code, is_page):
    assert reason(served.drop_status, a_candidate(response=HttpResponse(status=code))) == (
        None if is_page else "status"
    )


@pytest.mark.parametrize(
    ("content_type", "is_page"), [("Text/HTML; charset=x", True), ("application/json", False), ("", False)]
)
def test_only_html_is_a_page(content_type, is_page):
    candidate = a_candidate(response=HttpResponse(content_type=content_type))
    assert reason(served.drop_no_document, candidate) == (None if is_page else "no_document")


@pytest.mark.parametrize(
    ("dropped_for", "answer", "signal"),
    [
        ("status", {"status": 404}, "0"),
        ("bot", {"headers": {"Cache-Control": "no-store"}}, "0"),
        ("prefetch", {}, "1"),
        ("shared_response", {}, "1"),
        ("fragment", {}, "1"),
        ("excluded", {}, ""),
        ("prefetch", {"content_type": "image/png"}, ""),
    ],
)
def test_the_tracker_gets_a_signal_for_what_it_cannot_know(dropped_for, answer, signal):
    candidate = a_candidate(response=HttpResponse(**answer))
    assert served.signal_to_tracker(candidate, Drop(dropped_for)) == signal


# Beacons: what else the steps drop is in tests/db/test_api.py, by way of HTTP


@pytest.mark.parametrize(
    ("length", "code"),
    [("13", None), ("4096", None), ("4097", 413), ("0", 400), ("", 411), ("-1", 411), ("1" * 21, 411), ("٣", 411)],
)
def test_the_length_of_a_body_is_known_before_it_is_read(length, code):
    assert status(beacons.drop_length, a_candidate(Kind.PAGE_VIEW, meta={"CONTENT_LENGTH": length})) == code


def test_no_more_of_a_body_is_read_than_it_may_have():
    candidate, asked = a_candidate(Kind.PAGE_VIEW), []
    candidate.request.read = lambda size: asked.append(size) or b" " * size
    assert (reason(beacons.read_body, candidate), asked) == ("too_large", [4097])


def test_a_body_that_breaks_off_is_invalid():
    def read(size):
        raise UnreadablePostError

    candidate = a_candidate(Kind.PAGE_VIEW)
    candidate.request.read = read
    assert reason(beacons.read_body, candidate) == "invalid_body"


@pytest.mark.parametrize(("kept_for", "is_kept"), [(2000, False), (2001, True)])
def test_a_page_was_kept_if_it_was_rendered_before_the_browser_asked(kept_for, is_kept):
    beacon = beacons.Beacon("/", rendered=round(T0.timestamp() * 1000) - kept_for - 500, elapsed=500)
    assert beacon.was_kept(T0) == is_kept
    assert not beacon.was_kept(T0 - timedelta(seconds=1))


def test_only_a_heartbeat_may_say_when_its_page_was_rendered():
    body = b'{"path": "/", "rendered": 1, "elapsed": 1}'
    assert beacons.parse(body, takes_times=True) == beacons.Beacon("/", rendered=1, elapsed=1)
    with pytest.raises(beacons.InvalidBody, match="unknown key 'elapsed'"):
        beacons.parse(body, takes_times=False)


def test_a_client_waits_until_its_oldest_request_is_past(monkeypatch):
    cache.clear()
    clock = [1000.0]
    monkeypatch.setattr("pagestats.intake.throttling.time", lambda: clock[0])
    limit, request = throttling.Limit("requests", lambda: "2/min"), a_candidate().request
    assert [throttling.count_request(request, "a", limit) for _ in range(3)] == [0, 0, 60]
    assert throttling.count_request(request, "b", limit) == 0
    clock[0] += 59.5
    assert throttling.count_request(request, "a", limit) == 1
    clock[0] += 0.5
    assert throttling.count_request(request, "a", limit) == 0


# The work for a header is bounded


class Long(str):
    """A header of a million characters, with which nothing is done but to compare it and to cut it."""

    def refuse(self, *arguments):
        pytest.fail("a whole header was looked at")

    lower = strip = split = startswith = partition = find = encode = __contains__ = __iter__ = refuse


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_no_step_looks_at_more_of_a_header_than_is_needed(step, kind, settings):
    if kind not in step.kinds or step.name in ("rate", "new path"):  # these two go by the address
        return
    settings.PAGESTATS_OPT_OUTS = ["dnt", "gpc"]
    candidate = a_candidate(kind)
    candidate.path, candidate.identified = "/", Identified(session_id="s")
    candidate.match = None
    names = ["USER_AGENT", "DNT", "SEC_GPC", "PURPOSE", "SEC_PURPOSE", "X_MOZ", "ACCEPT", "ORIGIN", "SEC_FETCH_SITE"]
    names += ["SEC_FETCH_DEST", "HX_BOOSTED", "HX_REQUEST", "TURBO_FRAME", "X_REQUESTED_WITH", "REFERER"]
    long = Long("a" * 10**6)
    candidate.request.META |= {f"HTTP_{name}": long for name in names}
    for without in ((), ("HTTP_SEC_FETCH_SITE", "HTTP_SEC_FETCH_DEST", "HTTP_TURBO_FRAME")):
        for name in without:
            del candidate.request.META[name]
        for code in (200, 304):
            answer = HttpResponse(status=code)
            answer.headers = {"Content-Type": "text/html", "Cache-Control": "private"}  # the site's own
            candidate.response = answer if step.name != "remember" else HttpResponse()
            candidate.request.content_type = long
            candidate.request.content_params = {"charset": long}
            step.apply(candidate)


def test_a_header_is_cut():
    candidate = a_candidate(purpose="x" * candidates.LONGEST_HEADER + "prefetch")
    assert eligibility.drop_prefetch(candidate) is None
    assert not beacons.is_origin(f"https://example.com/{'x' * 1000}", host="example.com")


# What is recorded and counted


class Recording:
    """A recorder that remembers what it was given."""

    def __init__(self, outcome="recorded"):
        self.outcome, self.given = outcome, []

    def visit(self, hit):
        self.given.append(("visit", hit.path))
        return self.outcome

    def page_view(self, hit):
        self.given.append(("page_view", hit.path))
        return self.outcome

    def heartbeat(self, hit):
        self.given.append(("heartbeat", hit.path))


@pytest.mark.parametrize(
    ("outcome", "counted"),
    [
        ("recorded", {("recorded", ""): 1}),
        ("repeat", {("repeat", ""): 1}),
        ("not_known_yet", {}),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
def test_what_became_of_a_page_view_is_counted_once_it_is_known(outcome, counted, is_async):
    recorder = Recording(outcome)
    assert (async_to_sync(take_async) if is_async else take)(a_candidate(path="/a"), recorder) is None
    assert recorder.given == [("visit", "/a")]
    assert tallies.counts() == counted


@pytest.mark.parametrize(
    ("kind", "body", "given", "counted"),
    [
        (Kind.PAGE_VIEW, b'{"path": "/"}', ["page_view"], {("recorded", ""): 1}),
        (Kind.HEARTBEAT, b'{"path": "/"}', ["heartbeat"], {}),
        (
            Kind.HEARTBEAT,
            b'{"path": "/", "rendered": 1, "elapsed": 1}',
            ["heartbeat", "page_view"],
            {("recorded", ""): 1},
        ),
    ],
)
@pytest.mark.parametrize("is_limited", [False, True])
def test_a_beacon_is_recorded_as_what_it_is(monkeypatch, kind, body, given, counted, is_limited):
    cache.clear()
    recorder = Recording()
    monkeypatch.setattr("pagestats.intake.beacons.has_views", lambda path: not is_limited)
    limits = {"requests": 0, "new paths": 60}
    monkeypatch.setattr(throttling, "count_request", lambda request, endpoint, limit: limits[limit.name])
    drop = take(a_candidate(kind, body=body), recorder)
    if is_limited and "page_view" in given:
        assert (drop.reason, drop.status, drop.retry_after) == ("new_paths", 429, 60)
        given, counted = given[:-1], {("not_stored", "new_paths"): 1}
    else:
        assert drop is None
    assert recorder.given == [(verb, "/") for verb in given]
    assert tallies.counts() == counted


def on_a_loop():
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def test_what_may_wait_never_runs_on_an_event_loop(monkeypatch, settings):
    where = {}

    def watched(request, *, at, claimed):
        where["identity"] = on_a_loop()
        return "somebody"

    watched.lifetime = "lasting"
    monkeypatch.setattr(f"{__name__}.somebody", watched)

    class Watching(Recording):
        def visit(self, hit):
            where["recorder"] = on_a_loop()
            return super().visit(hit)

    class Path(str):
        def startswith(self, *arguments):
            where["path"] = on_a_loop()
            return super().startswith(*arguments)

    candidate = a_candidate()
    candidate.request.path = Path("/a")
    assert async_to_sync(take_async)(candidate, Watching()) is None
    assert where == {"path": True, "identity": False, "recorder": False}
