"""What a site gets when it installs the package."""

import pytest
from django.core.management import call_command


@pytest.mark.django_db
def test_no_migration_is_missing(capsys):
    try:
        call_command("makemigrations", check=True, dry_run=True, no_color=True)
    except SystemExit:
        pytest.fail(f"makemigrations would write:\n{capsys.readouterr().out}", pytrace=False)
    assert capsys.readouterr().out == "No changes detected\n"
