"""The routes of the API: `path("api/", include("pagestats.urls"))`."""

from django.core.exceptions import ImproperlyConfigured

try:
    from rest_framework.routers import SimpleRouter
except ModuleNotFoundError as error:
    raise ImproperlyConfigured(
        "pagestats.urls is the API, which needs Django REST framework, and that isn't installed. Run"
        " `pip install djangorestframework`, or remove pagestats.urls from your URLconf: pagestats.beacons, the"
        " tracker's URLs, works without it."
    ) from error

from pagestats.api import StatsViewSet

app_name = "pagestats"

router = SimpleRouter()
router.register("stats", StatsViewSet, basename="stats")

urlpatterns = router.urls
