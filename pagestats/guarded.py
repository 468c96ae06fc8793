"""Tables that only pagestats writes: one row written by hand, and the figures no longer agree with the page views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NoReturn, Self, TypeVar

from django.db import models

M = TypeVar("M", bound=models.Model)


class WrittenByHand(TypeError):
    """Rows of a table that only pagestats writes were about to be written by hand. The message says what to do."""


def _refused(name: str) -> Callable[..., NoReturn]:
    def refuse(self: models.QuerySet[Any], *args: Any, **kwargs: Any) -> NoReturn:
        raise _refusal(self.model, f"objects.{name}()")

    refuse.__name__ = name
    refuse.__doc__ = "Raise `WrittenByHand`."
    refuse.alters_data = True  # type: ignore[attr-defined]  # templates then don't call it
    return refuse


def _refusal(model: type[models.Model], call: str) -> WrittenByHand:
    instead = getattr(model, "INSTEAD", "")
    return WrittenByHand(
        f"{model.__name__}.{call} was refused: only pagestats writes the table {model._meta.db_table}, so that its"
        f" figures agree with the page views. {instead}"
    )


class GuardedQuerySet(models.QuerySet[M]):
    """Rows to read. Every method that writes raises `WrittenByHand`; the async ones call these."""

    create = _refused("create")
    get_or_create = _refused("get_or_create")
    update_or_create = _refused("update_or_create")
    bulk_create = _refused("bulk_create")
    update = _refused("update")
    bulk_update = _refused("bulk_update")
    delete = _refused("delete")


class UnguardedQuerySet(models.QuerySet[M]):
    """Rows to read and to write, for pagestats itself."""

    def create(self, **columns: Any) -> M:
        """Insert a row and return it; by `bulk_create`, since the model's `save` is refused."""
        (row,) = self.bulk_create([self.model(**columns)])
        return row


class GuardedManager(models.Manager[M]):
    """Rows to read."""

    def get_queryset(self) -> models.QuerySet[M]:
        """Return all rows, without the methods that write."""
        return GuardedQuerySet(self.model, using=self._db)


class UnguardedManager(models.Manager[M]):
    """Rows to read and to write."""

    def get_queryset(self) -> models.QuerySet[M]:
        """Return all rows."""
        return UnguardedQuerySet(self.model, using=self._db)


class GuardedModel(models.Model):
    """A table that only pagestats writes.

    `objects` reads. `unguarded` writes too: it is for pagestats itself, which keeps all tables in step, in transactions
    that hold the lock of each session. Fixtures and migrations write as usual: they copy whole tables.
    """

    INSTEAD: ClassVar[str]
    """What to do instead of writing by hand, as a sentence of an error."""

    objects: ClassVar[models.Manager[Self]] = GuardedManager()
    unguarded: ClassVar[models.Manager[Self]] = UnguardedManager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise `WrittenByHand`. A fixture is not stopped: Django stores its rows by `save_base`."""
        raise _refusal(type(self), "save()")

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise `WrittenByHand`."""
        raise _refusal(type(self), "delete()")
