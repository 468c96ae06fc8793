"""Fixtures that are shared with the proofs."""

from tests.clusters import broker  # noqa: F401
from tests.described_site import a_server, the_site  # noqa: F401
from tests.killed_backfill import visitors  # noqa: F401
