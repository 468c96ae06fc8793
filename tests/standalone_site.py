"""The example site under a server, with a second page of stats that stands alone, below /standalone/."""

from django.core.wsgi import get_wsgi_application
from django.urls import path

application = get_wsgi_application()

from example_project.urls import urlpatterns  # noqa: E402  # the apps have to be there
from pagestats.views import PublicStatsView  # noqa: E402  # as above

urlpatterns.insert(0, path("standalone/", PublicStatsView.as_view()))
