from __future__ import annotations

import re

from django import template
from django.utils.html import escape, format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from example_project.blog.models import EntryQuerySet, Page

register = template.Library()


@register.simple_tag
def published_pages() -> EntryQuerySet:
    """Return the pages that are linked at the top of every page."""
    return Page.objects.published()


@register.filter
def prose(text: str) -> SafeString:
    """Return plain text as HTML: blank lines separate paragraphs, `## ` starts a heading, backquotes mark code."""
    blocks = re.split(r"\n\s*\n", text.strip())
    return format_html_join("\n", "{}", ((_block(block),) for block in blocks if block))


@register.filter
def lead(text: str) -> SafeString:
    """Return the first paragraph as HTML, without the element around it."""
    return _inline(re.split(r"\n\s*\n", text.strip())[0])


def _block(block: str) -> SafeString:
    if block.startswith("## "):
        return format_html("<h2>{}</h2>", _inline(block.removeprefix("## ")))
    return format_html("<p>{}</p>", _inline(block))


def _inline(text: str) -> SafeString:
    # The text is escaped first, so the only elements in the result are those added here.
    return mark_safe(re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text)))
