"""What the result of a run holds, and how it is stored."""

from datetime import date

import pytest

from pagestats.models import Run
from pagestats.runs import BackfillResult, CleanupResult, PruneResult, Result, ScheduleResult, VerifyResult

STORED = [
    (BackfillResult(total=130, new_visitors=11), {"total": 130, "new_visitors": 11}),
    (
        BackfillResult(total=1, link=0, batch_size=20),
        {"total": 1, "new_visitors": 0, "link": 0, "batch_size": 20},
    ),
    (PruneResult(before=date(2026, 3, 14), total=3), {"before": "2026-03-14", "total": 3}),
    (ScheduleResult(name="pagestats prune"), {"name": "pagestats prune"}),
    (CleanupResult(), {}),
]


@pytest.mark.parametrize(("result", "stored"), STORED)
def test_a_result_is_stored_as_plain_values_and_read_again(result: Result, stored: dict[str, object]) -> None:
    assert result.to_json() == stored
    assert type(result).of(Run(result=stored)) == result


def test_the_result_of_a_verification_keeps_its_position_and_its_seal() -> None:
    result = VerifyResult(drift=2, sealed_before=date(2026, 3, 14), position={"part": "site"}, processed=0, link=3)
    stored = result.to_json()
    assert (stored["sealed_before"], stored["position"], stored["processed"]) == ("2026-03-14", {"part": "site"}, 0)
    assert VerifyResult.from_json(stored) == result


def test_every_kind_of_run_has_one_type_of_result() -> None:
    assert {each.kind for each in Result.__subclasses__()} == set(Run.Kind)


def test_keys_that_no_version_knows_any_more_are_ignored() -> None:
    assert BackfillResult.from_json({"total": 3, "of_old": True, "link": None}) == BackfillResult(total=3)
