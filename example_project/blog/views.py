from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from example_project.blog.models import Page, Post


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """List the published posts, newest first."""
    return render(request, "blog/home.html", {"posts": Post.objects.published()})


@require_safe
def entry(request: HttpRequest, slug: str) -> HttpResponse:
    """Show the published post or page with this slug. A post wins over a page, then the first created wins."""
    for model, template in ((Post, "blog/post.html"), (Page, "blog/page.html")):
        found = model.objects.published().filter(slug=slug).order_by("pk").first()
        if found:
            return render(request, template, {"entry": found})
    raise Http404(f"Nothing is published at /{slug}.")
