"""Each row says what it is in one line: in the admin, in a shell and in the message of an error."""

import pytest
from django.apps import apps
from django.db.models import DateField, Model

from tests.factories import T0

MODELS = [model for model in apps.get_app_config("pagestats").get_models() if model._meta.managed]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_a_row_of_each_model_names_itself_in_one_line(model: type[Model]) -> None:
    values = {
        field.name: T0 if isinstance(field, DateField) else field.default if field.has_default() else "7"
        for field in model._meta.concrete_fields
    }
    name = str(model(**values))
    assert name
    assert "\n" not in name
    assert f"{model.__name__} object" not in name
