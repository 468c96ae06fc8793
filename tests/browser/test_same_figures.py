"""One number wherever it is shown: the example site in a real Chromium, with JavaScript and without."""

import json

import pytest

from tests.browsing import (
    MakeVisitor,
    Site,
    figures,
    log_in,
    read,
    run_python,
    table,
)

VIEWS = """
import django
django.setup()
from pagestats.hits import Hit
from pagestats.models import PageView
from pagestats.recording import record_page_views
from django.utils import timezone
record_page_views(Hit(path=path, session_id=f"s{n}") for n in range(3) for path in ("/first", "/about")[: 1 + n % 2])
PageView.objects.create(path="/first", session_id="pending", timestamp=timezone.now())
"""


@pytest.mark.parametrize("javascript", [False, True], ids=["without JavaScript", "with JavaScript"])
def test_a_number_is_the_same_wherever_it_is_shown(site: Site, visitor: MakeVisitor, javascript: bool) -> None:
    run_python(site.database, "-c", VIEWS)  # four views of the first post, one of them pending, and one of another page
    reader = visitor(javascript=javascript).new_page()
    read(reader, "/first")  # the fifth, when it is served
    assert "4 views" in " ".join(reader.locator("article header").inner_text().split())

    read(reader, "/stats/")
    shown = figures(reader)
    assert (shown["Page views"], shown["Daily visitors"], shown["Active now"]) == ("6", "5", "1")
    assert [(path, views) for _, _, path, views in table(reader, "Pages by views")] == [
        ("/first", "5"),
        ("/about", "1"),
    ]
    assert table(reader, "Viewing now") == [("The first post /first", "1")]
    read(reader, "/")
    assert reader.locator("ol.popular li").first.inner_text() == "The first post 5 views"

    editor = visitor(javascript=javascript).new_page()
    log_in(editor)
    editor.goto("/admin/blog/post/?o=-5")
    row = editor.locator("#result_list tbody tr").filter(has_text="The first post")
    assert row.locator(".field-page_views").inner_text() == "5"
    row.get_by_role("link").first.click()
    editor.wait_for_url("**/change/**")
    cards = editor.locator(".pagestats-panel dl > div")
    panel = {card.locator("dt").inner_text(): card.locator("dd").inner_text() for card in cards.all()}
    assert panel == {"Reading now": "0", "Views, 30 days": "5", "Daily visitors, 30 days": "5", "Views, all time": "5"}
    editor.goto("/admin/pagestats/stats/")
    first = editor.locator(".pagestats-pages tbody tr").filter(has_text="The first post")
    assert first.locator(".pagestats-number").all_inner_texts() == ["5", "5"]
    # The public page and the home page were counted meanwhile, and the page of figures itself by nobody.
    answer = editor.request.get("/api/stats/").json()
    pages = {page["path"]: page["views"] for page in answer["page_stats"]}
    assert pages == {"/first": 5, "/about": 1, "/stats/": 1, "/": 1}
    cards = " ".join(editor.locator(".pagestats-cards").inner_text().split())
    assert (answer["total_page_views"], answer["unique_visitors"], answer["active_visitors"]) == (8, 5, 1)
    for label, number in [("Page views", 8), ("Daily visitors", 5), ("Active now", 1)]:
        assert f"{label} {number}".lower() in cards.lower()

    told = json.loads(run_python(site.database, "manage.py", "pagestats_report", "--days", "1", "--json"))
    assert (told["views"], told["visitors"]) == (8, 5)
    assert {row["value"]: row["views"] for row in told["rows"]} == pages
