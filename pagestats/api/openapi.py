"""The API in words and schemas, for drf-spectacular; nothing asks for them if that isn't installed.

What depends on settings, or on the register of dimensions, is a function: it is asked when a schema is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pagestats import dimensions, sql
from pagestats.api.queries import DEFAULT_LIMIT, MOST_LIMIT, MOST_OFFSET
from pagestats.conf import LONGEST_SEARCH, conf

try:
    from drf_spectacular.extensions import OpenApiAuthenticationExtension
    from drf_spectacular.openapi import AutoSchema
    from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
except ImportError:
    IS_INSTALLED = False
else:
    IS_INSTALLED = True

Schema = dict[str, Any]

SESSION_ID = r"^[A-Za-z0-9._~-]{16,64}$"
"""What the identity `client` accepts."""

STORABLE = r"^[^\u0000]*$"
"""A text that every database can store."""

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


ERROR = {
    "type": "object",
    "properties": {"detail": {"type": "string", "description": "What is wrong, with the value."}},
    "required": ["detail"],
}

LIFETIME = {
    "type": "string",
    "enum": ["day", "lasting"],
    "description": "How long a session ID lives. With `day`, a person who comes back the next day is another visitor: "
    "label the number daily visitors.",
}

STATS = an_object(
    lifetime=LIFETIME,
    active_visitors={**COUNT, "description": "How many visitors are on the site now."},
    active_by_path=a_list(path={"type": "string"}, count=COUNT),
    total_page_views=COUNT,
    unique_visitors=COUNT,
    published={
        "type": "object",
        "additionalProperties": COUNT,
        "description": "How many objects each content source has published.",
    },
    tracking_since={
        "type": "string",
        "format": "date-time",
        "nullable": True,
        "description": "When the first page view was recorded; null if none was.",
    },
    page_stats=a_list(path={"type": "string"}, title={"type": "string"}, page_type={"type": "string"}, views=COUNT),
    total_paths={**COUNT, "description": "How many paths have page views, including those that are not listed."},
)

ACTIVE = an_object(
    visitors={**COUNT, "description": "How many visitors are on the site now, or on the page of `path`."},
    by_path=a_list(path={"type": "string"}, title={"type": "string"}, count=COUNT),
)

DAY: Schema = {"type": "string", "format": "date"}
NULLABLE_COUNT: Schema = {**COUNT, "nullable": True}
FIGURES = {
    "start": DAY,
    "end": DAY,
    "views": COUNT,
    "visitors": COUNT,
    "new_visitors": {
        **NULLABLE_COUNT,
        "description": "Visitors who were never seen before the range. With `value`, null if not available.",
    },
    "returning_visitors": {
        **NULLABLE_COUNT,
        "description": "Visitors who were seen before the range. Null where `lifetime` is `day`, and if not available.",
    },
    "days": a_list(day=DAY, views=COUNT, visitors=COUNT),
}
COMPARED = {**an_object(**FIGURES), "nullable": True}
REPORT = an_object(
    lifetime=LIFETIME,
    zone={"type": "string", "description": "The reporting time zone, to which days and hours belong."},
    dimension={"type": "string", "nullable": True},
    value={"type": "string", "nullable": True},
    **FIGURES,
    hours=a_list(start={"type": "string", "format": "date-time"}, views=COUNT, visitors=COUNT),
    rows=a_list(
        value={"type": "string", "description": "A value of the dimension, such as the path of a page."},
        title={"type": "string"},
        page_type={"type": "string"},
        views=COUNT,
        visitors=NULLABLE_COUNT,
    ),
    total_rows={
        **COUNT,
        "description": "How many values of the dimension have page views in the range, including those that are not "
        "listed; with `search`, how many were found among those that the reader may see. 0 without `dimension`.",
    },
    reason={"type": "string", "description": "Why the visitors of some rows are not available; otherwise empty."},
    previous={
        **COMPARED,
        "description": "The same number of days before the range; null without `compare`, and if not available.",
    },
    year_before={**COMPARED, "description": "The same range a year before; null like `previous`."},
)

MILLISECONDS: Schema = {"type": "integer", "minimum": 0, "maximum": 2**53 - 1}
RENDERED = {
    **MILLISECONDS,
    "description": "When the page was rendered, by the site's own clock, since 1970.",
}
ELAPSED = {
    **MILLISECONDS,
    "description": "How long ago the browser began to request the page. If the page was rendered before that, it came "
    "from a cache, and a page view is recorded with the heartbeat.",
}


def beacon(action: str) -> Schema:
    """Return the schema of a body, which has a session ID only where the browser keeps one."""
    path = {
        "type": "string",
        "pattern": r"^\/[^\u0000]*$",
        "description": "`location.pathname`, percent-encoded as the browser returns it.",
    }
    required = {"path": path}
    if conf.IDENTITY == "client":
        required["session_id"] = {
            "type": "string",
            "pattern": SESSION_ID,
            "description": "The ID that the browser keeps.",
        }
    body = an_object(**required)
    if action == "heartbeats":
        body["properties"] = {**required, "rendered": RENDERED, "elapsed": ELAPSED}
    return body


NO_PUBLIC_PAGE = "The stats are public, and the value is not one that the public may see."
READING = {
    200: "The stats. Pages with the most views and paths with the most visitors come first.",
    400: f"`limit` is not a whole number from 0 to {MOST_LIMIT}.",
    401: "The stats are not public, and nobody is logged in.",
    403: "The stats are not public, and the user doesn't have the permission `pagestats.view_stats`.",
    429: "Too many requests from this address.",
    503: "The database or the cache failed.",
}
WATCHING = {
    **READING,
    200: "Who is on the site now. Paths with the most visitors come first.",
    304: "Nothing has changed since the client's last request.",
    400: f"`limit` is not a whole number from 0 to {MOST_LIMIT}, or `path` is not a path.",
    404: NO_PUBLIC_PAGE,
}
REPORTING = {
    **READING,
    200: "The stats of the range. Rows with the most views come first, unless `order` says otherwise.",
    400: "A parameter is invalid, or the range is reversed, too long, or not available because its page views were "
    "deleted. `detail` says which.",
    404: NO_PUBLIC_PAGE,
}
SENDING = {
    204: "Received. It is counted unless it is a repeat, is sent by a bot, or the site excludes the path.",
    400: "The body is not a JSON object with these fields, or not in UTF-8.",
    403: "The request comes from another site: `Sec-Fetch-Site` is not `same-origin`, or, if the browser doesn't send "
    "that, `Origin` is not the host of the request.",
    404: "The site has no page at this path.",
    411: "The request has no `Content-Length`.",
    413: "The body is over 4,096 bytes.",
    415: "The body is neither `application/json` nor `text/plain`, or its charset is not UTF-8.",
    429: "Too many requests, or too many paths without any page view, from this address.",
    503: "The database or the cache failed.",
}

OPERATIONS = {
    "list": ("stats_retrieve", "Read the stats"),
    "active": ("stats_active", "Read who is on the site now"),
    "report": ("stats_report", "Read the stats of a range of days"),
    "page_views": ("stats_record_page_view", "Record a page view"),
    "heartbeats": ("stats_record_heartbeat", "Record a heartbeat"),
}
WHO_READS = (
    "Needs the permission `pagestats.view_stats`, unless the stats are public. Readers without the permission see only "
    "pages that a content source knows or a setting allows; the counts include all pages."
)
AS_TEXT = "`text/plain` is for `navigator.sendBeacon`; the body is the same."
DESCRIPTIONS = {
    "list": WHO_READS,
    "active": "For a page that polls: send the `ETag` of the last answer in `If-None-Match`, and the answer is 304 "
    f"until something changes. Titles may be 30 seconds old. {WHO_READS}",
    "report": "Exact stats of any range of reporting days, of the whole site or of one value of a dimension. "
    f"{WHO_READS}",
    "page_views": "A view is a repeat, and is not counted, if it is less than PAGESTATS_DEDUP_WINDOW (by default 30 "
    f"minutes) from another view of the same path and session. {AS_TEXT}",
    "heartbeats": "Says that the session is still on a path. It counts no page view, except of a page that came from a "
    f"cache. {AS_TEXT}",
}


if IS_INSTALLED or TYPE_CHECKING:

    def _limit(description: str) -> OpenApiParameter:
        return OpenApiParameter(
            "limit",
            {"type": "integer", "minimum": 0, "maximum": MOST_LIMIT, "default": DEFAULT_LIMIT},
            description=description,
        )

    def _choice(name: str, choices: list[str], default: str, description: str) -> OpenApiParameter:
        schema = {"type": "string", "enum": choices, "default": default}
        return OpenApiParameter(name, schema, description=description)

    def list_parameters() -> list[OpenApiParameter]:
        """Return the parameters of `list`."""
        return [_limit("The most rows in each of the two lists. The counts include all.")]

    def active_parameters() -> list[OpenApiParameter]:
        """Return the parameters of `active`."""
        return [
            OpenApiParameter(
                "path", {"type": "string", "pattern": STORABLE}, description="Only visitors who are on this path."
            ),
            _limit("The most rows in the list. The number of visitors includes all."),
        ]

    def report_parameters() -> list[OpenApiParameter]:
        """Return the parameters of `report`, with the dimensions of the register."""
        names = [dimension.name for dimension in dimensions.with_rows()]
        values = ", ".join(f"`{dimension.name}` ({dimension.label})" for dimension in dimensions.with_rows())
        return [
            OpenApiParameter("start", DAY, description="The first day, from 1970 to 2199.", required=True),
            OpenApiParameter(
                "end", DAY, description="The last day, included. A range has at most 3,660 days.", required=True
            ),
            OpenApiParameter(
                "dimension",
                {"type": "string", "enum": names},
                description=f"List the values of this dimension that have page views in the range: {values}.",
            ),
            OpenApiParameter(
                "value",
                {"type": "string", "pattern": STORABLE},
                description="With `dimension`, one of its values: all stats are of that value alone. With "
                "`dimension=page`, a path.",
            ),
            _choice("order", [*sql.ORDERS], "-views", "How to sort the rows. A minus means descending."),
            OpenApiParameter(
                "search",
                {"type": "string", "maxLength": LONGEST_SEARCH, "default": ""},
                description="Only rows with this text in their value or title, ignoring case.",
            ),
            _choice("by", ["day", "hour"], "day", "`hour` adds the hours, for a range of at most two days."),
            _choice(
                "compare",
                ["true", "false"],
                "false",
                "Also read the same number of days before the range, and the range a year before.",
            ),
            _limit("The most rows. The counts include all."),
            OpenApiParameter(
                "offset",
                {"type": "integer", "minimum": 0, "maximum": MOST_OFFSET, "default": 0},
                description="How many rows to skip at the beginning.",
            ),
        ]

    PARAMETERS = {"list": list_parameters, "active": active_parameters, "report": report_parameters}
    RESPONSES = {"list": (READING, STATS), "active": (WATCHING, ACTIVE), "report": (REPORTING, REPORT)}

    class StatsSchema(AutoSchema):
        """The description of `StatsViewSet`, whatever the site's DEFAULT_SCHEMA_CLASS is."""

        @property
        def _action(self) -> str:
            view: Any = self.view
            return str(view.action)

        def get_operation(self, *args: Any, **kwargs: Any) -> Any:
            """Return the operation, with a body that is required: a plain schema doesn't say so."""
            operation = super().get_operation(*args, **kwargs)
            if operation and "requestBody" in operation:
                operation["requestBody"]["required"] = True
            return operation

        def _is_list_view(self, serializer: Any = None) -> bool:
            return False

        def get_auth(self) -> list[Schema]:
            """Return what a caller needs: a login, or nothing where the stats are public."""
            return [*super().get_auth(), *([{}] if self._action in PARAMETERS and conf.PUBLIC else [])]

        def get_operation_id(self) -> str:
            """Return the name that a generated client gives to the call."""
            return OPERATIONS[self._action][0]

        def get_summary(self) -> str:
            """Return the operation in a few words."""
            return OPERATIONS[self._action][1]

        def get_description(self) -> str:  # type: ignore[override]  # the stub says that it returns None
            """Return what a caller has to know."""
            return DESCRIPTIONS[self._action]

        def get_tags(self) -> list[str]:
            """Return the one tag of all operations."""
            return ["stats"]

        def get_override_parameters(self) -> Any:
            """Return the parameters of the query, and the headers of responses."""
            wait = OpenApiParameter(
                "Retry-After",
                {"type": "integer", "minimum": 0},
                OpenApiParameter.HEADER,
                description="In how many seconds the client may ask again.",
                response=[429],
            )
            parameters = PARAMETERS[self._action]() if self._action in PARAMETERS else []
            return [*parameters, wait]

        def get_request_serializer(self) -> Any:
            """Return the schema of the body for each content type."""
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
                status: OpenApiResponse(bodies.get(status, ERROR), description)
                for status, description in statuses.items()
            }

    class VisitorScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # its base is not typed
        """The description of `LoggedIn`. drf-spectacular knows it once the class is defined."""

        target_class = "pagestats.api.policies.LoggedIn"
        name = "cookieAuth"

        def get_security_definition(self, auto_schema: AutoSchema) -> Schema:
            """Return the cookie that a login sets."""
            from django.conf import settings

            return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME}
