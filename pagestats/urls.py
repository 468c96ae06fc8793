"""The routes of the API: `path("api/", include("pagestats.urls"))`."""

from rest_framework.routers import SimpleRouter

from pagestats.api import StatsViewSet

app_name = "pagestats"

router = SimpleRouter()
router.register("stats", StatsViewSet, basename="stats")

urlpatterns = router.urls
