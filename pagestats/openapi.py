"""The API in words and schemas, for drf-spectacular. Without that installed, nobody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pagestats.conf import conf

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

STATS = an_object(
    lifetime={
        "type": "string",
        "enum": ["day", "lasting"],
        "description": "How long a session id lives. Where it is `day`, somebody who comes back tomorrow is another "
        "visitor: call the figure daily visitors.",
    },
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


def beacon() -> Schema:
    """Return the schema of a body: with a session id where, and only where, the browser keeps it."""
    path = {
        "type": "string",
        "pattern": r"^\/[^\u0000]*$",
        "description": "`location.pathname`, percent-encoded as the browser gives it.",
    }
    if conf.IDENTITY != "client":
        return an_object(path=path)
    session_id = {"type": "string", "pattern": SESSION_ID, "description": "The id that the browser keeps."}
    return an_object(path=path, session_id=session_id)


READING = {
    200: "The figures, with the most viewed pages and the paths with the most visitors first.",
    400: f"`limit` is no whole number from 0 to {MOST_LIMIT}.",
    401: "The figures are not public, and nobody is logged in.",
    403: "The figures are not public, and the user lacks the permission `pagestats.view_stats`.",
    429: "Too many requests of this address.",
    503: "The database did not answer.",
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
    "page_views": ("stats_record_page_view", "Record a page view"),
    "heartbeats": ("stats_record_heartbeat", "Record a heartbeat"),
}
DESCRIPTIONS = {
    "list": "Needs the permission `pagestats.view_stats`, unless the site made its figures public. Then the lists hold "
    "only pages that a content source knows or a setting allows; the counts are of all.",
    "page_views": "A view of the same path by the same session is a repeat for half an hour, and does not count. "
    "`text/plain` is for `navigator.sendBeacon`; the body is the same.",
    "heartbeats": "Says that the session is still on a path; it never counts a page view. "
    "`text/plain` is for `navigator.sendBeacon`; the body is the same.",
}


if IS_INSTALLED or TYPE_CHECKING:

    class StatsSchema(AutoSchema):
        """What drf-spectacular says of `StatsViewSet`, whatever the site's DEFAULT_SCHEMA_CLASS is."""

        @property
        def _action(self) -> str:
            return cast(str, self.view.action)  # type: ignore[attr-defined]

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
            return [*super().get_auth(), *([{}] if self._action == "list" and conf.PUBLIC else [])]

        def get_operation_id(self) -> str:
            """Return the name that a generated client gives to the call."""
            return OPERATIONS[self._action][0]

        def get_summary(self) -> str:
            """Return the operation in a few words."""
            return OPERATIONS[self._action][1]

        def get_description(self) -> str:  # type: ignore[override]
            """Return what a caller has to know."""
            return DESCRIPTIONS[self._action]

        def get_tags(self) -> list[str]:
            """Return one tag for all."""
            return ["stats"]

        def get_override_parameters(self) -> Any:
            """Return the limit, and the headers of responses."""
            wait = OpenApiParameter(
                "Retry-After",
                {"type": "integer", "minimum": 0},
                OpenApiParameter.HEADER,
                description="Seconds until a request is taken again.",
                response=[429],
            )
            if self._action != "list":
                return [wait]
            limit = OpenApiParameter(
                "limit",
                {"type": "integer", "minimum": 0, "maximum": MOST_LIMIT, "default": DEFAULT_LIMIT},
                description="The longest that each of the two lists may be. The counts are of all.",
            )
            return [limit, wait]

        def get_request_serializer(self) -> Any:
            """Return the schema of the body for each way to send it."""
            return None if self._action == "list" else {"application/json": beacon(), "text/plain": beacon()}

        def get_response_serializers(self) -> Any:
            """Return each status with its meaning and its body."""
            bodies = {200: STATS, 204: None}
            return {
                status: OpenApiResponse(bodies.get(status, REASON), description)
                for status, description in (READING if self._action == "list" else SENDING).items()
            }

    class VisitorScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
        """What drf-spectacular says of `api.LoggedIn`. Defining it makes it known."""

        target_class = "pagestats.api.LoggedIn"
        name = "cookieAuth"

        def get_security_definition(self, auto_schema: AutoSchema) -> Schema:
            """Return the cookie that a login leaves."""
            from django.conf import settings

            return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME}
