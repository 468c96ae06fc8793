"""The benchmark's site: one page, the admin, and visitors identified by an unsigned cookie."""

from datetime import datetime

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import path


def page(request: HttpRequest, number: int) -> HttpResponse:
    """Return a page without a database query."""
    return HttpResponse(f"<!doctype html><title>Page {number}</title>")


def by_cookie(request: HttpRequest, *, at: datetime, claimed: str | None) -> str | None:
    """Return the session id of a request."""
    return request.COOKIES.get("session")


by_cookie.lifetime = "lasting"

urlpatterns = [path("p/<int:number>/", page), path("admin/", admin.site.urls)]
