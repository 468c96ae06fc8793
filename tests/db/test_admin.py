import ast
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.contrib.admin import AdminSite
from django.contrib.admin import site as default_site
from django.contrib.auth.models import Permission, User
from django.urls import NoReverseMatch, path, reverse
from django.utils import timezone, translation

from example_project.blog.models import Post
from pagestats import retention
from pagestats.admin import StatsAdmin, raw_lists
from pagestats.admin.health import REASONS
from pagestats.identity import identities
from pagestats.intake import beacons, eligibility, served
from pagestats.models import Calendar, PageView, Rollup, Run, Stats, Tally
from pagestats.recording import record_heartbeat, record_page_views
from pagestats.rollups import begin_verification, verification
from pagestats.stats import PageStat
from tests.factories import CONTENT, T0, a_hit, raw_views

STATS = "/admin/pagestats/stats/"
ALL = f"{STATS}?period=all"  # what is recorded here is not of the last 30 days
LISTS = ["pagestats_pageview", "pagestats_activesession"]


@pytest.fixture
def rows():
    record_heartbeat(a_hit())
    raw_views((f"/{number}", "s", T0 + timedelta(hours=number)) for number in range(150))


@pytest.mark.django_db
@pytest.mark.parametrize("name", LISTS)
def test_the_rows_are_listed_and_cannot_be_written(admin_client, rows, name):
    assert admin_client.get(reverse(f"admin:{name}_changelist")).status_code == 200
    assert admin_client.get(reverse(f"admin:{name}_add")).status_code == 403
    key = "s" if "session" in name else PageView.objects.first().pk
    page = admin_client.get(reverse(f"admin:{name}_change", args=[key]))
    assert page.status_code == 200
    assert b'name="_save"' not in page.content
    assert admin_client.post(reverse(f"admin:{name}_change", args=[key]), {"path": "/x"}).status_code == 403
    assert admin_client.post(reverse(f"admin:{name}_delete", args=[key]), {"post": "yes"}).status_code == 403


@pytest.mark.django_db
def test_the_newest_page_views_come_first(admin_client, rows):
    page = admin_client.get(reverse("admin:pagestats_pageview_changelist"))
    assert [view.path for view in page.context["cl"].result_list[:2]] == ["/149", "/148"]


@pytest.mark.django_db
@pytest.mark.parametrize("name", LISTS)
def test_no_query_counts_further_than_the_list_goes(admin_client, rows, name, django_capture_queries):
    queries = django_capture_queries(lambda: admin_client.get(reverse(f"admin:{name}_changelist")))
    counts = [query for query in queries if "COUNT(" in query and "pagestats" in query]
    assert counts
    assert all("LIMIT 10000" in query for query in counts)


@pytest.mark.django_db
def test_the_list_ends_where_the_count_does(admin_client, rows, monkeypatch):
    monkeypatch.setattr(raw_lists, "MOST_LISTED", 120)
    page = admin_client.get(reverse("admin:pagestats_pageview_changelist"), {"p": 2})
    assert page.context["cl"].paginator.count == 120
    assert len(page.context["cl"].result_list) == 20
    note = "This list shows only the newest 120 rows."
    assert note in page.content.decode()
    monkeypatch.undo()
    assert note[:20] not in admin_client.get(reverse("admin:pagestats_pageview_changelist")).content.decode()


@pytest.mark.django_db
def test_rows_are_found_by_the_beginning_of_the_path_and_by_the_session(admin_client, rows):
    url = reverse("admin:pagestats_pageview_changelist")
    assert len(admin_client.get(url, {"q": "/14"}).context["cl"].result_list) == 11
    assert len(admin_client.get(url, {"q": "no such session"}).context["cl"].result_list) == 0


class Page(HTMLParser):
    """What is on the page: the texts of its own part, and the elements of the whole."""

    def __init__(self, response):
        super().__init__()
        self.texts, self.elements = [], []
        html = response.content.decode()
        self.main = html[html.index('<div id="content-main"') : html.index('<br class="clear">')]
        self.feed(html.replace(self.main, ""))
        self.texts.clear()
        self.feed(self.main)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, text):
        if text.strip():
            self.texts.append(" ".join(text.split()))


@pytest.fixture
def client_of(client):
    """A function that logs a member of the staff in who has permissions by these names, and no other."""

    def make(*codenames, is_staff=True):
        user = User.objects.create_user("reader", password="x", is_staff=is_staff)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client.force_login(user)
        return client

    return make


@pytest.fixture
def figures(settings):
    """Some of everything that the page shows."""
    settings.PAGESTATS_CONTENT = CONTENT
    Post.objects.create(title="Hello World", slug="hello", published=True)
    Post.objects.create(title="Not yet", slug="draft")
    record_page_views(
        [
            a_hit(path="/hello"),
            a_hit(path="/constructor"),
            a_hit(path="/", at=T0 - timedelta(days=3)),
        ]
    )
    now = timezone.now()
    for n in range(3):
        record_heartbeat(a_hit(session_id=f"s{n}", path="/hello", at=now))
    record_heartbeat(a_hit(session_id="t", path="/", at=now))
    raw_views(("/hello", f"pending {n}", T0) for n in range(1200))
    day = now.astimezone(Calendar.zone_of(Calendar.objects.all())).date()
    for outcome, reason, ago, count in [
        ("recorded", "", 0, 1200),
        ("recorded", "", 1, 34),
        ("repeat", "", 0, 5),
        ("not_stored", "bot", 0, 7),
        ("not_stored", "a reason of tomorrow", 0, 8),
        ("failed", "OperationalError", 2, 1),
    ]:
        Tally.objects.create(day=day - timedelta(days=ago), outcome=outcome, reason=reason, count=count)
    retention.cleanup_and_store_run()


def shown(response, key):
    return [tuple(row.values()) if isinstance(row, dict) else row for row in response.context[key]]


@pytest.mark.django_db
def test_the_menu_leads_to_the_page(client_of):
    client = client_of("view_stats")
    index = client.get("/admin/").content.decode()
    assert (STATS, "Page stats") in re.findall(r'<a href="([^"]+)"[^>]*>([^<]+)</a>', index)
    assert "/admin/pagestats/pageview/" not in index
    response = client.get(STATS)
    assert response.status_code == 200
    assert "<h1>Page stats</h1>" in response.content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize("public", [False, True])
def test_without_the_permission_there_is_neither_page_nor_entry(client_of, settings, public):
    settings.PAGESTATS_PUBLIC = public
    client = client_of("view_pageview", "view_activesession", "add_post")
    assert client.get(STATS).status_code == 403
    assert STATS not in client.get("/admin/").content.decode()


@pytest.mark.django_db
def test_who_is_no_staff_is_asked_to_log_in(client_of, client):
    assert client.get(STATS).headers["Location"] == f"/admin/login/?next={STATS}"
    client_of("view_stats", is_staff=False)
    assert client.get(STATS).headers["Location"] == f"/admin/login/?next={STATS}"


@pytest.mark.django_db
def test_nothing_can_be_added_changed_or_deleted(admin_client):
    view = raw_views([("/a", "s", T0)])[0]
    for where in ("add", f"{view.pk}", f"{view.pk}/change", f"{view.pk}/delete", f"{view.pk}/history"):
        assert admin_client.get(f"{STATS}{where}/").status_code == 404
        assert admin_client.post(f"{STATS}{where}/", {"post": "yes"}).status_code == 404
    for method in ("post", "put", "patch", "delete"):
        assert getattr(admin_client, method)(STATS).status_code == 405
    assert admin_client.head(STATS).status_code == 200
    with pytest.raises(NoReverseMatch):
        reverse("admin:pagestats_stats_add")


@pytest.mark.django_db
def test_no_cache_keeps_the_page(admin_client):
    assert "no-store" in admin_client.get(STATS).headers["Cache-Control"]


@pytest.mark.django_db
def test_the_page_shows_the_figures(admin_client, figures):
    response = admin_client.get(ALL)
    assert [(card.label, card.figure, card.note, card.changes) for card in response.context["cards"]] == [
        ("Active now", "4", "in the last 2 minutes", ()),
        ("Page views", "1,203", "1,203 since tracking began", ()),
        ("Daily visitors", "1,201", "counted once a day", ()),
    ]
    assert shown(response, "viewing_now") == [("/hello", "Hello World", "3"), ("/", "Home", "1")]
    pages = response.context["pages"]
    assert [
        tuple(row[key] for key in ("title", "path", "type", "views", "visitors", "share")) for row in pages["rows"]
    ] == [
        ("Hello World", "/hello", "blog", "1,201", "1,201", "100.00"),
        ("Home", "/", "home", "1", "1", "0.08"),
        ("/constructor", "", "other", "1", "1", "0.08"),
    ]
    assert (pages["shown"], pages["total"]) == ("1–3 of 3", 3)
    texts = Page(response).texts
    for text in ["Hello World", "/hello", "1,201", "/constructor", "March 11, 2026, 1 p.m.", "Bot", "1,234"]:
        assert text in texts
    assert texts[texts.index("Published: posts") + 1] == "1"
    assert texts[texts.index("Published: pages") + 1] == "0"
    series = response.context["series"].rows
    assert (series[0], series[3]) == (("March 11, 2026", "1", "1"), ("March 14, 2026", "1,202", "1,201"))
    assert {"March 11, 2026", "1,202"} <= {*texts}


@pytest.mark.django_db
def test_the_page_shows_what_became_of_requests(admin_client, figures):
    response = admin_client.get(STATS)
    assert [
        (str(row["label"]), row["alarm"], row["today"], row["last_days"]) for row in response.context["outcomes"]
    ] == [
        ("Recorded", False, "1,200", "1,234"),
        ("Repeats", False, "5", "5"),
        ("Not recorded", False, "15", "15"),
        ("Failed", True, "0", "1"),
    ]
    assert [[str(reason["label"]) for reason in row["reasons"]] for row in response.context["outcomes"]] == [
        [],
        [],
        ["a reason of tomorrow", "Bot"],
        ["OperationalError"],
    ]
    html = response.content.decode()
    assert "Approximate" in html
    assert "The logger “pagestats” has the error of each failure." in html
    assert response.context["pending"] == "1,200"
    assert "finished, sessions removed: 0" in " ".join(html.split())


def reasons_in(module):
    """Return each reason that a module may give for dropping a request."""
    found = set()
    for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
        match node:
            case ast.Call(func=ast.Name("Drop" | "not_a_page"), args=[ast.Constant(reason), *_]):
                found.add(reason)
            case ast.Call(func=ast.Name("_throttled"), args=[*_, ast.Constant(reason)]):
                found.add(reason)
            case ast.keyword(arg="reason", value=ast.Constant(reason)):
                found.add(reason)
    return found


def test_every_reason_for_counting_nobody_has_a_name_on_the_page():
    given = set().union(*(reasons_in(module) for module in (beacons, eligibility, served, identities)))
    assert given == REASONS.keys()


@pytest.mark.django_db
def test_an_empty_page_says_what_to_do_next(admin_client):
    texts = Page(admin_client.get(STATS)).texts
    assert "No page view yet." in texts
    assert "none yet" in texts
    assert "Open a page of your site in another window, then refresh this page." in texts
    assert "Nobody has been on the site in the last 2 minutes." in texts
    assert texts.count("Never") == 3  # verified, cleaned up, backfilled


@pytest.mark.django_db
def test_a_site_without_content_sources_is_told_of_them(admin_client):
    record_page_views([a_hit()])
    assert "PAGESTATS_CONTENT" in Page(admin_client.get(ALL)).main


@pytest.mark.django_db
def test_a_hundred_paths_are_viewed_now_and_the_others_are_said(admin_client):
    now = timezone.now()
    for n in range(101):
        record_heartbeat(a_hit(session_id=f"s{n}", path=f"/{n}", at=now))
    response = admin_client.get(STATS)
    assert len(response.context["viewing_now"]) == 100
    assert response.context["elsewhere"] == "1"


@pytest.mark.django_db
def test_the_number_of_queries_does_not_depend_on_what_there_is(admin_client, settings, django_capture_queries):
    settings.PAGESTATS_CONTENT = CONTENT
    raw_views([("/0", "s", T0)])
    record_heartbeat(a_hit(at=timezone.now()))
    few = django_capture_queries(lambda: admin_client.get(ALL))
    Post.objects.bulk_create(Post(title=str(n), slug=str(n), published=True) for n in range(50))
    raw_views((f"/{n}", f"s{n}", T0) for n in range(150))
    for n in range(20):
        Tally.objects.create(day=timezone.localdate(), outcome="not_stored", reason=f"{n}", count=n)
        record_heartbeat(a_hit(session_id=f"s{n}", path=f"/{n}", at=timezone.now()))
    assert len(django_capture_queries(lambda: admin_client.get(ALL))) == len(few)


@pytest.mark.django_db
def test_to_ask_again_who_is_here_costs_one_statement(admin_client, figures, django_capture_queries):
    active = f"{STATS}active/"
    etag = admin_client.get(active).headers["ETag"]
    asked = django_capture_queries(lambda: admin_client.get(active, headers={"if-none-match": etag}))
    assert admin_client.get(active, headers={"if-none-match": etag}).status_code == 304
    [statement] = [statement for statement in asked if "pagestats" in statement]
    assert "pagestats_activesession" in statement


@pytest.mark.django_db
def test_what_a_visitor_named_is_text_and_no_more(admin_client, settings):
    settings.PAGESTATS_CONTENT = CONTENT
    hostile = [
        "/<script>alert(1)</script>",
        '/"onmouseover="alert(1)',
        "//evil.example/",
        "javascript:alert(1)",
        "/&amp;",
    ]
    Post.objects.create(title="<b>bold</b>", slug="bold", published=True)
    record_page_views([a_hit(path=path) for path in [*hostile, "/bold"]])
    record_heartbeat(a_hit(path=hostile[0], at=timezone.now()))
    Tally.objects.create(day=timezone.localdate(), outcome="failed", reason="<i>Error</i>", count=1)
    page = Page(admin_client.get(ALL))
    for text in [*hostile, "<b>bold</b>", "<i>Error</i>"]:
        assert text in page.texts
    viewed = [*hostile, "/bold"]
    pages = [Page(admin_client.get(f"{STATS}page/", {"path": it, "period": "all"})) for it in viewed]
    for shown_page, it in zip(pages, viewed, strict=True):
        assert it in shown_page.texts
    for shown_page in [page, *pages, Page(admin_client.get(ALL, {"q": hostile[1], "period": "</script><b>"}))]:
        assert not {tag for tag, _ in shown_page.elements} & {"b", "i"}
        assert not any("onmouseover" in attributes for _, attributes in shown_page.elements)
        hrefs = [str(attributes.get("href", "")) for _, attributes in shown_page.elements]
        assert not any(href.startswith(("//", "javascript:")) for href in hrefs)


@pytest.mark.parametrize(
    ("path", "page_type", "href"),
    [
        ("/hello", "blog", "/hello"),
        ("/a b?c#d%41", "blog", "/a%20b%3Fc%23d%2541"),
        ("/é", "page", "/%C3%A9"),
        ("/", "home", "/"),
        ("", "home", ""),
        ("hello", "blog", ""),
        ("//evil.example", "blog", ""),
        ("/\\evil.example", "blog", ""),
        ("javascript:alert(1)", "blog", ""),
        ("/constructor", "other", ""),
    ],
)
def test_a_page_that_the_site_knows_is_linked_to_and_no_other(path, page_type, href):
    assert PageStat(path, "Title", page_type, 1).href == href


@pytest.mark.django_db
def test_times_are_in_the_reporting_zone_which_is_named(admin_client):
    record_page_views([a_hit(at=datetime(2026, 3, 14, 12, 0, tzinfo=UTC))])
    Calendar.unguarded.update(zone="Pacific/Kiritimati")
    with timezone.override("America/New_York"):
        page = Page(admin_client.get(ALL))
    assert any("(Pacific/Kiritimati)" in text for text in page.texts)
    assert "March 15, 2026, 2 a.m." in page.texts
    assert any(text.startswith("March 15, 2026 – ") for text in page.texts)
    assert "2026-03-15T02:00:00+14:00" in page.main


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "label", "note"),
    [
        ("anonymous", "Daily visitors", "counted once a day"),
        ("cookie", "Unique visitors", "in this period"),
        ("client", "Unique visitors", "in this period"),
    ],
)
def test_visitors_are_called_what_they_are(admin_client, settings, name, label, note):
    settings.PAGESTATS_IDENTITY = name
    cards = admin_client.get(STATS).context["cards"]
    assert (cards[2].label, cards[2].note) == (label, note)
    others = [card.label for card in cards[3:]]
    assert others == ([] if name == "anonymous" else ["New visitors", "Returning visitors"])


@pytest.mark.django_db
def test_the_timeout_is_said_as_it_is_set(admin_client, settings):
    settings.PAGESTATS_SESSION_TIMEOUT = timedelta(seconds=90)
    assert admin_client.get(STATS).context["cards"][0].note == "in the last 90 seconds"
    settings.PAGESTATS_SESSION_TIMEOUT = timedelta(minutes=1)
    assert admin_client.get(STATS).context["cards"][0].note == "in the last 1 minute"


@pytest.mark.django_db
def test_the_page_needs_neither_inline_style_nor_script(admin_client, figures):
    page = Page(admin_client.get(ALL))
    assert "style" not in {tag for tag, _ in page.elements}
    assert not any("style" in attributes for _, attributes in page.elements)
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    scripts = [attributes for tag, attributes in page.elements if tag == "script" and "src" not in attributes]
    assert scripts == [{"id": "pagestats-series", "type": "application/json"}]
    assert ("link", {"rel": "stylesheet", "href": "/static/pagestats/admin.css"}) in page.elements


@pytest.mark.django_db
@pytest.mark.parametrize("full", [False, True])
def test_every_string_can_be_translated(admin_client, monkeypatch, request, full):
    if full:
        request.getfixturevalue("figures")
        Post.objects.update(title="1")
    marked = "⟦{}⟧".format
    for name in ("gettext", "pgettext"):
        monkeypatch.setattr(translation._trans, name, lambda *texts: marked(texts[-1]), raising=False)
    for name in ("ngettext", "npgettext"):
        monkeypatch.setattr(
            translation._trans, name, lambda *texts: marked(texts[-3] if texts[-1] == 1 else texts[-2]), raising=False
        )
    # What formats of dates and numbers come to is not this app's.
    monkeypatch.setattr("django.utils.formats.get_format", trans_formats)
    html = Page(admin_client.get(ALL)).main
    html += Page(admin_client.get(f"{STATS}page/?path=/hello")).main if full else ""
    text = "\n".join(re.findall(">([^<>]*)<", re.sub("<script.*?</script>", "", html, flags=re.DOTALL)))
    assert text.count("⟦") > 15
    while text != (text := re.sub("⟦[^⟦⟧]*⟧", "", text)):
        pass
    allowed = {"posts", "pages", "blog", "home", "other", "Home", "OperationalError", "a reason of tomorrow"}
    left = {line.strip() for line in text.splitlines() if re.search("[A-Za-z]", line) and not line.startswith("/")}
    assert left - allowed == {"(Europe/Amsterdam)"}


def trans_formats(name, *args, **kwargs):
    return {
        "DATETIME_FORMAT": "Y-m-d H:i",
        "DATE_FORMAT": "Y-m-d",
        "NUMBER_GROUPING": 3,
        "THOUSAND_SEPARATOR": ",",
    }.get(name, ".")


@pytest.mark.django_db
def test_numbers_and_dates_are_written_as_the_language_does(admin_client, figures, settings):
    settings.LANGUAGE_CODE = "de"
    response = admin_client.get(ALL)
    assert response.context["cards"][1].figure == "1.203"
    assert "11. März 2026 13:00" in Page(response).texts
    assert 'width="0.08"' in response.content.decode()
    assert response.context["series"].rows[3] == ("14. März 2026", "1.202", "1.201")


other_site = AdminSite(name="other")
other_site.register(Stats, StatsAdmin)
urlpatterns = [path("admin/", default_site.urls), path("elsewhere/", other_site.urls)]


@pytest.mark.django_db
def test_another_admin_site_may_have_the_page_too(client_of, settings):
    client = client_of("view_stats")
    settings.ROOT_URLCONF = __name__
    assert "/elsewhere/pagestats/stats/" in client.get("/elsewhere/").content.decode()
    response = client.get("/elsewhere/pagestats/stats/")
    assert response.status_code == 200
    assert '<a href="/elsewhere/">' in response.content.decode()
    assert 'href="/admin/' not in response.content.decode()


@pytest.mark.django_db
def test_the_page_says_when_the_figures_were_verified_and_what_was_found(admin_client, figures):
    texts = Page(admin_client.get(STATS)).texts
    assert texts[texts.index("Verified") + 1] == "Never"
    list(verification(begin_verification()))
    Run.objects.filter(kind="verify").update(finished=T0)
    texts = Page(admin_client.get(STATS)).texts
    assert texts[texts.index("Verified") + 1 :][:2] == ["March 14, 2026, 1 p.m.", ": exact"]
    Rollup.unguarded.filter(value="/hello").update(views=9)
    Calendar.unguarded.update(sealed_before=(T0 - timedelta(days=9)).date())
    list(verification(begin_verification()))
    Run.objects.filter(kind="verify").update(finished=T0)
    texts = Page(admin_client.get(STATS)).texts
    verified = texts[texts.index("Verified") + 1 :]
    assert verified[:4] == ["March 14, 2026, 1 p.m.", ":", "1 figure differs", "manage.py verify_aggregates"]
    assert "Days before March 5, 2026 can’t be verified: their page views were pruned." in texts
    begin_verification()  # one that runs, or died, says nothing yet
    texts = Page(admin_client.get(STATS)).texts
    assert texts[texts.index("Verified") + 1 :] == verified
