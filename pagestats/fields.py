"""A column and an index that are the same on every database."""

from __future__ import annotations

from typing import Any

from django.db import migrations, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import ProjectState

COLLATIONS = {
    "postgresql": "C",
    # The nopad and 0900 collations, since utf8mb4_bin treats "a" and "a " as equal.
    "mariadb": "utf8mb4_nopad_bin",
    "mysql": "utf8mb4_0900_bin",
}


def collation(connection: BaseDatabaseWrapper) -> str | None:
    """Return the name of the collation that compares byte for byte; None where that is the default."""
    if getattr(connection, "mysql_is_mariadb", False):
        return COLLATIONS["mariadb"]
    return COLLATIONS.get(connection.vendor)


class ExactCharField(models.CharField):
    """Text that every database compares and orders byte for byte: case, accents and trailing spaces count."""

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        """Return the long name of varchar, as the SQL standard has it.

        With the short name, Django would add a second index for LIKE on PostgreSQL, which "C" doesn't need, and would
        warn about a limit of 255 characters in unique keys on MySQL, which no supported version has.
        """
        return f"character varying({self.max_length})"

    def db_parameters(self, connection: BaseDatabaseWrapper) -> dict[str, Any]:
        """Return the column's type with the collation of this database."""
        return {**super().db_parameters(connection), "collation": collation(connection)}


class PartialIndex(models.Index):
    """An index of the rows that meet a condition, or of all rows if the database doesn't support partial indexes.

    Django's own `condition` is left out there too, but models.W037 warns of it on each `migrate`.
    """

    def __init__(self, *, where: models.Q, fields: list[str], name: str) -> None:
        self.where = where
        super().__init__(fields=fields, name=name)

    def deconstruct(self) -> tuple[str, Any, dict[str, Any]]:
        """Return what a migration needs to make this index again."""
        path, args, kwargs = super().deconstruct()
        return path, args, {**kwargs, "where": self.where}

    def create_sql(
        self, model: type[models.Model], schema_editor: BaseDatabaseSchemaEditor, using: str = "", **kwargs: Any
    ) -> Any:
        """Return the statement that makes the index."""
        if schema_editor.connection.features.supports_partial_indexes:
            plain = models.Index(fields=self.fields, name=self.name, condition=self.where)
            return plain.create_sql(model, schema_editor, using, **kwargs)
        return super().create_sql(model, schema_editor, using, **kwargs)


class AddPartialIndex(migrations.AddIndex):
    """Add an index only if the database supports partial indexes; elsewhere it isn't worth its cost."""

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Create the index, if the database supports partial indexes."""
        if schema_editor.connection.features.supports_partial_indexes:
            super().database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Remove the index, if it was created."""
        if schema_editor.connection.features.supports_partial_indexes:
            super().database_backwards(app_label, schema_editor, from_state, to_state)
