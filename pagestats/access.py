"""Who may read the stats: one permission, checked by every door."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser, PermissionsMixin

from pagestats.conf import conf

PERMISSION = "pagestats.view_stats"


def may_read_all(user: PermissionsMixin | AnonymousUser) -> bool:
    """Return whether a user has the permission to read all stats, of every path."""
    has_perm = getattr(user, "has_perm", None)  # a site's own user model may have no permissions
    return bool(has_perm and has_perm(PERMISSION))  # False for an inactive user


def may_read(user: PermissionsMixin | AnonymousUser) -> bool:
    """Return whether a user may read any stats: they are public, or the user has the permission."""
    return conf.PUBLIC or may_read_all(user)
