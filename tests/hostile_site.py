"""A site whose own REST_FRAMEWORK policies let nothing through."""

REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.BrowsableAPIRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.FormParser"],
    "DEFAULT_AUTHENTICATION_CLASSES": ["tests.hostile_site.Refusing"],
    "DEFAULT_PERMISSION_CLASSES": ["tests.hostile_site.Refusing"],
    "DEFAULT_THROTTLE_CLASSES": ["tests.hostile_site.Refusing"],
    "DEFAULT_THROTTLE_RATES": {"requests": "1/day", "new paths": "1/day"},
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "tests.hostile_site.Refusing",
    "DEFAULT_METADATA_CLASS": "tests.hostile_site.Refusing",
    "DEFAULT_VERSIONING_CLASS": "rest_framework.versioning.AcceptHeaderVersioning",
    "ALLOWED_VERSIONS": ["7"],
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.PageNumberPagination",
    "DEFAULT_FILTER_BACKENDS": ["rest_framework.filters.SearchFilter"],
    "DEFAULT_SCHEMA_CLASS": "tests.hostile_site.Refusing",
    "PAGE_SIZE": 1,
    "EXCEPTION_HANDLER": "tests.hostile_site.refuse",
    "UNAUTHENTICATED_USER": "tests.hostile_site.refuse",
    "UNAUTHENTICATED_TOKEN": "tests.hostile_site.refuse",
    "NUM_PROXIES": 0,
    "URL_FORMAT_OVERRIDE": "limit",
    "FORMAT_SUFFIX_KWARG": "format",
    "VIEW_NAME_FUNCTION": "tests.hostile_site.refuse",
    "VIEW_DESCRIPTION_FUNCTION": "tests.hostile_site.refuse",
    "NON_FIELD_ERRORS_KEY": "errors",
    "DATETIME_FORMAT": "%Y",
    "UNICODE_JSON": False,
    "COMPACT_JSON": False,
    "STRICT_JSON": False,
    "COERCE_DECIMAL_TO_STRING": False,
    "UPLOADED_FILES_USE_URL": False,
}


class Refusing:
    """Every policy at once, and none that lets anything through."""

    def __getattr__(self, name):
        refuse()


def refuse(*arguments, **keywords):
    raise AssertionError("the site's own policy was asked")
