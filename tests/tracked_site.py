"""A site with a strict policy whose pages have the tracker, and which writes into its log what arrives.

What follows the `?` of a page is what the page is like: `every` is that of the tracker, `no-store`, `max-age`,
`prerender` and `prefetch` another path, and `frame` a path that it has in a frame. `/worker.js` is a service worker
that fetches each page.
"""

import json
import os

from asgiref.sync import iscoroutinefunction
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.http import Http404, HttpResponse, JsonResponse
from django.template import engines
from django.urls import include, path
from django.utils.decorators import sync_and_async_middleware

PAGE = (
    "{% load pagestats %}<!doctype html><title>A page</title>{% pagestats_tracker every=every %}"
    '{% if frame %}<iframe src="{{ frame }}"></iframe>{% endif %}'
)


@sync_and_async_middleware
def told(get_response):
    """Write each request into the log.

    It is async among async ones: where it were not, who hangs up in the middle of a request would have asgiref look for
    a thread that has ended (https://github.com/django/asgiref/issues/491), and the log say so.
    """

    def about(request):
        body = json.loads(request.body) if request.path.startswith("/hello/") and request.method == "POST" else {}
        return {"to": request.path, "path": body.get("path"), "purpose": request.headers.get("Sec-Purpose", "")}

    def tell(line, response):
        # One write: print() makes several, between which another thread may write.
        os.write(1, f"told {json.dumps({**line, 'status': response.status_code})}\n".encode())
        return response

    if iscoroutinefunction(get_response):

        async def middleware(request):
            return tell(about(request), await get_response(request))

    else:

        def middleware(request):
            return tell(about(request), get_response(request))

    return middleware


def page(request, slug):
    asked = request.GET
    tracked = {"every": asked.get("every", 600), "frame": asked.get("frame")}
    content = engines["django"].from_string(PAGE).render(tracked)
    response = HttpResponse(content, status=404 if slug == "lost" else 200)
    response["Content-Security-Policy"] = "default-src 'self'"
    if "no-store" in asked:
        response["Cache-Control"] = "no-store"
    if "max-age" in asked:
        response["Cache-Control"] = "max-age=60"
    for ahead in {"prerender", "prefetch"} & set(asked):
        response["Speculation-Rules"] = f'"/rules/{ahead}{asked[ahead]}"'
    return response


def rules(request, ahead, slug):
    if ahead not in {"prerender", "prefetch"}:
        raise Http404
    rule = {ahead: [{"urls": [f"/{slug}"], "eagerness": "immediate"}]}
    return JsonResponse(rule, content_type="application/speculationrules+json")


def worker(request):
    script = "self.onfetch = (event) => event.respondWith(fetch(event.request))"
    return HttpResponse(script, content_type="text/javascript")


urlpatterns = [
    path("worker.js", worker),
    path("hello/", include("pagestats.beacons")),
    path("rules/<slug:ahead>/<slug:slug>", rules),
    path("<slug:slug>", page),
    path("all/<path:slug>", page),
    *staticfiles_urlpatterns(),
]
