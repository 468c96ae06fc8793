"""The API, for Django REST framework: the stats for those who may read them, and page views and heartbeats of browsers.

- `viewset`: the endpoints.
- `queries`: the parameters of a request.
- `policies`: who may read, how often, and how an answer is written.
- `openapi`: the description of it all for drf-spectacular.
"""

from pagestats.api.viewset import StatsViewSet

__all__ = ["StatsViewSet"]
