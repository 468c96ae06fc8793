from django.contrib import admin
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import include, path
from django.views.generic import RedirectView

from example_project.blog import views
from pagestats.views import PublicStatsView

urlpatterns = [
    path("", views.home, name="home"),
    path("stats/", PublicStatsView.as_view(base_template="blog/stats.html"), name="stats"),
    path("api/", include("pagestats.urls")),
    path("hello/", include("pagestats.beacons")),
    path("admin/", admin.site.urls),
    # Without these two, `<slug:slug>` would match before APPEND_SLASH could redirect.
    path("stats", RedirectView.as_view(pattern_name="stats")),
    path("admin", RedirectView.as_view(pattern_name="admin:index")),
    path("<slug:slug>", views.entry, name="entry"),
    # With DEBUG, serves the style sheet under any server, not only runserver. Without DEBUG, this is empty.
    *staticfiles_urlpatterns(),
]
