"""How a request becomes a hit, or why it doesn't: one list of named steps, whichever door the request came through.

- `candidates`: what is judged, and the value of a drop.
- `steps`: the steps in order, as data, with the reason for the order.
- `served`, `beacons`, `eligibility`: the steps themselves; of a page that the site served, of a message that a browser
  sent, and of both.
- `paths`: the path that a page is recorded under.
- `throttling`: how often one client may ask.
- `recorders`: where a hit goes.
- `pipeline`: judge, record, count.
- `answers`: the HTTP answer to a beacon.
"""

from pagestats.intake.answers import UNAVAILABLE, answer_beacon, outside_transactions
from pagestats.intake.beacons import SUSPICIOUS
from pagestats.intake.candidates import Candidate, Drop, Kind, not_a_page, shown
from pagestats.intake.guard import Guard
from pagestats.intake.paths import is_known, path_of
from pagestats.intake.pipeline import steps_of, take, take_async
from pagestats.intake.recorders import Outcome, Recorder, choose_recorder
from pagestats.intake.served import signal_to_tracker
from pagestats.intake.steps import STEPS, Step

__all__ = [
    "STEPS",
    "SUSPICIOUS",
    "UNAVAILABLE",
    "Candidate",
    "Drop",
    "Guard",
    "Kind",
    "Outcome",
    "Recorder",
    "Step",
    "answer_beacon",
    "choose_recorder",
    "is_known",
    "not_a_page",
    "outside_transactions",
    "path_of",
    "shown",
    "signal_to_tracker",
    "steps_of",
    "take",
    "take_async",
]
