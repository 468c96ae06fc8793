"""The API in words and schemas, for drf-spectacular. Without that installed, nobody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pagestats import sql
from pagestats.conf import LONGEST_SEARCH, conf

try:
    from drf_spectacular.extensions import OpenApiAuthenticationExtension
    from drf_spectacular.openapi import AutoSchema
    from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
except ImportError:
    IS_INSTALLED = False
else:
    IS_INSTALLED = True

DEFAULT_LIMIT = 100
MOST_LIMIT = 1000
MOST_OFFSET = 1_000_000

Schema = dict[str, Any]

SESSION_ID = r"^[A-Za-z0-9._~-]{16,64}$"
"""As the identity `client` takes it."""

COUNT: Schema = {"type": "integer", "minimum": 0}


def an_object(**properties: Schema) -> Schema:
    """Return the schema of an object with exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def a_list(**properties: Schema) -> Schema:
    """Return the schema of a list of objects with exactly these properties."""
    return {"type": "array", "items": an_object(**properties)}


REASON = {
    "type": "object",
    "properties": {"detail": {"type": "string", "description": "What is wrong, with the value."}},
    "required": ["detail"],
}

LIFETIME = {
    "type": "string",
    "enum": ["day", "lasting"],
    "description": "How long a session id lives. Where it is `day`, somebody who comes back tomorrow is another "
    "visitor: call the figure daily visitors.",
}

STATS = an_object(
    lifetime=LIFETIME,
    active_visitors={**COUNT, "description": "On the site now."},
    active_by_path=a_list(path={"type": "string"}, count=COUNT),
    total_page_views=COUNT,
    unique_visitors=COUNT,
    published={
        "type": "object",
        "additionalProperties": COUNT,
        "description": "Published things of each content source.",
    },
    tracking_since={
        "type": "string",
        "format": "date-time",
        "nullable": True,
        "description": "When the first page was viewed.",
    },
    page_stats=a_list(path={"type": "string"}, title={"type": "string"}, page_type={"type": "string"}, views=COUNT),
    total_paths={**COUNT, "description": "How many paths were ever viewed, those that are not shown too."},
)

ACTIVE = an_object(
    visitors={**COUNT, "description": "On the site now, or on the page that was asked for."},
    by_path=a_list(path={"type": "string"}, title={"type": "string"}, count=COUNT),
)

DAY: Schema = {"type": "string", "format": "date"}
PERHAPS: Schema = {**COUNT, "nullable": True}
FIGURES = {
    "start": DAY,
    "end": DAY,
    "views": COUNT,
    "visitors": COUNT,
    "new_visitors": {
        **PERHAPS,
        "description": "Never seen before the range; of a page, null where that can't be told.",
    },
    "returning_visitors": {**PERHAPS, "description": "Seen before the range. Null, too, where ids live a day."},
    "days": a_list(day=DAY, views=COUNT, visitors=COUNT),
}
COMPARED = {**an_object(**FIGURES), "nullable": True}
REPORT = an_object(
    lifetime=LIFETIME,
    zone={"type": "string", "description": "The reporting zone, in which days and hours are reckoned."},
    dimension={"type": "string", "nullable": True},
    value={"type": "string", "nullable": True},
    **FIGURES,
    hours=a_list(start={"type": "string", "format": "date-time"}, views=COUNT, visitors=COUNT),
    rows=a_list(
        value={"type": "string", "description": "The path of a page."},
        title={"type": "string"},
        page_type={"type": "string"},
        views=COUNT,
        visitors=PERHAPS,
    ),
    total_rows={
        **COUNT,
        "description": "How many pages were viewed in the range, those that are not shown too; with `search`, how many "
        "of those that may be shown were found. 0 without `dimension`.",
    },
    reason={"type": "string", "description": "Why the visitors of some pages can't be told, else empty."},
    previous={
        **COMPARED,
        "description": "As many days before the range; null unless asked for, and where it can't be told.",
    },
    year_before={**COMPARED, "description": "The same range a year before; null as `previous`."},
)


def beacon(action: str) -> Schema:
    """Return the schema of a body: with a session id where, and only where, the browser keeps it."""
    path = {
        "type": "string",
        "pattern": r"^\/[^\u0000]*$",
        "description": "`location.pathname`, percent-encoded as the browser gives it.",
    }
    takes = {"path": path}
    if conf.IDENTITY == "client":
        takes["session_id"] = {
            "type": "string",
            "pattern": SESSION_ID,
            "description": "The id that the browser keeps.",
        }
    body = an_object(**takes)
    if action == "heartbeats":
        body["properties"] = {**takes, "rendered": RENDERED, "elapsed": ELAPSED}
    return body


MILLISECONDS: Schema = {"type": "integer", "minimum": 0, "maximum": 2**53 - 1}
RENDERED = {
    **MILLISECONDS,
    "description": "When the page was rendered, by the site's own clock, since 1970.",
}
ELAPSED = {
    **MILLISECONDS,
    "description": "How long ago the browser began to ask for the page. Where it was rendered before that, something "
    "had kept it, and a page view is recorded with the heartbeat.",
}


READING = {
    200: "The figures, with the most viewed pages and the paths with the most visitors first.",
    400: f"`limit` is no whole number from 0 to {MOST_LIMIT}.",
    401: "The figures are not public, and nobody is logged in.",
    403: "The figures are not public, and the user lacks the permission `pagestats.view_stats`.",
    429: "Too many requests of this address.",
    503: "The database did not answer.",
}
WATCHING = {
    **READING,
    200: "Who is here, the paths with the most visitors first.",
    304: "It is what the client has already.",
    400: f"`limit` is no whole number from 0 to {MOST_LIMIT}, or `path` is no path.",
    404: "The figures are public, and the page is none that the public may know of.",
}
REPORTING = {
    **READING,
    200: "The figures of the range, with its most viewed pages first.",
    400: "A parameter is none, or the range is reversed, too long, or of pruned page views: `detail` says why.",
    404: "The figures are public, and the page is none that the public may know of.",
}
SENDING = {
    204: "Received. It counts unless it is a repeat, or comes from a bot, or the site excludes the path.",
    400: "The body is not a JSON object with these fields, or not in UTF-8.",
    403: "The request comes from another site: `Sec-Fetch-Site` is not `same-origin`, or, where the browser does not "
    "send that, `Origin` is not the host of the request.",
    404: "The path is no page of this site.",
    411: "The request has no `Content-Length`.",
    413: "The body is over 4,096 bytes.",
    415: "The body is neither `application/json` nor `text/plain`, or not in UTF-8 by its own word.",
    429: "Too many requests, or too many paths without any page view, of this address.",
    503: "It could not be recorded.",
}

OPERATIONS = {
    "list": ("stats_retrieve", "Read the figures"),
    "active": ("stats_active", "Read who is on the site now"),
    "report": ("stats_report", "Read the figures of a range of days"),
    "page_views": ("stats_record_page_view", "Record a page view"),
    "heartbeats": ("stats_record_heartbeat", "Record a heartbeat"),
}
DESCRIPTIONS = {
    "list": "Needs the permission `pagestats.view_stats`, unless the site made its figures public. Then the lists hold "
    "only pages that a content source knows or a setting allows; the counts are of all.",
    "active": "For a page that asks again and again: with the `ETag` of the last answer in `If-None-Match`, it is a "
    "304 as long as nothing has changed. Titles may be 30 seconds old. Needs the permission `pagestats.view_stats`, "
    "unless the site made its figures public. Then the list holds only pages that a content source knows or a setting "
    "allows.",
    "report": "Exact figures of any range of reporting days, of the site or of one page. Needs the permission "
    "`pagestats.view_stats`, unless the site made its figures public. Then the rows are, and the page has "
    "to be, such that a content source knows it or a setting allows it; the counts are of all.",
    "page_views": "A view less than PAGESTATS_DEDUP_WINDOW, half an hour by default, from another one of the same path "
    "and session is a repeat, and does not count. "
    "`text/plain` is for `navigator.sendBeacon`; the body is the same.",
    "heartbeats": "Says that the session is still on a path; it counts no page view, but of a page that was kept. "
    "`text/plain` is for `navigator.sendBeacon`; the body is the same.",
}


if IS_INSTALLED or TYPE_CHECKING:

    def _limit(description: str) -> OpenApiParameter:
        return OpenApiParameter(
            "limit",
            {"type": "integer", "minimum": 0, "maximum": MOST_LIMIT, "default": DEFAULT_LIMIT},
            description=description,
        )

    PARAMETERS = {
        "list": [_limit("The longest that each of the two lists may be. The counts are of all.")],
        "active": [
            OpenApiParameter(
                "path", {"type": "string", "pattern": r"^[^\u0000]*$"}, description="Of the page that is asked for."
            ),
            _limit("The longest that the list may be. The number of visitors is of all."),
        ],
        "report": [
            OpenApiParameter("start", DAY, description="The first day, of the years 1970 to 2199.", required=True),
            OpenApiParameter(
                "end", DAY, description="The last one, included: at most 3,660 days in all.", required=True
            ),
            OpenApiParameter(
                "dimension", {"type": "string", "enum": ["page"]}, description="List the pages of the range."
            ),
            OpenApiParameter(
                "value",
                {"type": "string", "pattern": r"^[^\u0000]*$"},
                description="With `dimension=page`, a path: all figures are of that page.",
            ),
            OpenApiParameter(
                "order",
                {"type": "string", "enum": [*sql.ORDERS], "default": "-views"},
                description="Of the list of pages: with a minus, the most come first.",
            ),
            OpenApiParameter(
                "search",
                {"type": "string", "maxLength": LONGEST_SEARCH, "default": ""},
                description="Only pages with this in their path or title, in whatever case.",
            ),
            OpenApiParameter(
                "by",
                {"type": "string", "enum": ["day", "hour"], "default": "day"},
                description="`hour` adds the hours of a range of at most two days.",
            ),
            OpenApiParameter(
                "compare",
                {"type": "string", "enum": ["true", "false"], "default": "false"},
                description="Also read as many days before the range, and the range a year before.",
            ),
            _limit("The longest that the list of pages may be. The counts are of all."),
            OpenApiParameter(
                "offset",
                {"type": "integer", "minimum": 0, "maximum": MOST_OFFSET, "default": 0},
                description="How many pages are left out at the beginning of the list.",
            ),
        ],
    }
    RESPONSES = {"list": (READING, STATS), "active": (WATCHING, ACTIVE), "report": (REPORTING, REPORT)}

    class StatsSchema(AutoSchema):
        """What drf-spectacular says of `StatsViewSet`, whatever the site's DEFAULT_SCHEMA_CLASS is."""

        @property
        def _action(self) -> str:
            view: Any = self.view
            return str(view.action)

        def get_operation(self, *args: Any, **kwargs: Any) -> Any:
            """Return the operation; a schema as it is written here does not tell that a body is needed."""
            operation = super().get_operation(*args, **kwargs)
            if operation and "requestBody" in operation:
                operation["requestBody"]["required"] = True
            return operation

        def _is_list_view(self, serializer: Any = None) -> bool:
            return False

        def get_auth(self) -> list[Schema]:
            """Return what a caller needs: a login, and none where the figures are public."""
            return [*super().get_auth(), *([{}] if self._action in PARAMETERS and conf.PUBLIC else [])]

        def get_operation_id(self) -> str:
            """Return the name that a generated client gives to the call."""
            return OPERATIONS[self._action][0]

        def get_summary(self) -> str:
            """Return the operation in a few words."""
            return OPERATIONS[self._action][1]

        def get_description(self) -> str:  # type: ignore[override]  # its own returns nothing, says its type
            """Return what a caller has to know."""
            return DESCRIPTIONS[self._action]

        def get_tags(self) -> list[str]:
            """Return one tag for all."""
            return ["stats"]

        def get_override_parameters(self) -> Any:
            """Return what a query may have, and the headers of responses."""
            wait = OpenApiParameter(
                "Retry-After",
                {"type": "integer", "minimum": 0},
                OpenApiParameter.HEADER,
                description="Seconds until a request is taken again.",
                response=[429],
            )
            return [*PARAMETERS.get(self._action, []), wait]

        def get_request_serializer(self) -> Any:
            """Return the schema of the body for each way to send it."""
            return (
                None
                if self._action in PARAMETERS
                else dict.fromkeys(("application/json", "text/plain"), beacon(self._action))
            )

        def get_response_serializers(self) -> Any:
            """Return each status with its meaning and its body."""
            statuses, answer = RESPONSES.get(self._action, (SENDING, None))
            bodies = {200: answer, 204: None, 304: None}
            return {
                status: OpenApiResponse(bodies.get(status, REASON), description)
                for status, description in statuses.items()
            }

    class VisitorScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # its base is not typed
        """What drf-spectacular says of `api.LoggedIn`. Defining it makes it known."""

        target_class = "pagestats.api.LoggedIn"
        name = "cookieAuth"

        def get_security_definition(self, auto_schema: AutoSchema) -> Schema:
            """Return the cookie that a login leaves."""
            from django.conf import settings

            return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME}
