"""Who may read the figures: one permission, asked everywhere."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser, PermissionsMixin

from pagestats.conf import conf

PERMISSION = "pagestats.view_stats"


def may_read_all(user: PermissionsMixin | AnonymousUser) -> bool:
    """Tell whether a user has the permission to read every figure of every path."""
    has_perm = getattr(user, "has_perm", None)  # a site's own users may have no permissions
    return bool(has_perm and has_perm(PERMISSION))  # False for anybody who is not active


def may_read(user: PermissionsMixin | AnonymousUser) -> bool:
    """Tell whether a user may read any figure: the site's are public, or the user has the permission."""
    return conf.PUBLIC or may_read_all(user)
