"""The package and its docs are written in plain English: phrases that readers stumbled over do not come back."""

import re
from pathlib import Path

import pytest

from tests import ROOT

PHRASES = {
    r"told|tells": "say shows, reports, returns; for “can't be told”, isn't available",
    r"[Rr]eckon(?:s|ed|ing)?": "say compute, count",
    r"(?<!there )(?:is|are) none(?! yet)": "say is not a …, is invalid",
    r"anew": "say again",
    r"fare[sd]?": "say health, result",
    r"[Ww]hoever|who records|who asks": "name the actor: users who, a process that",
    r"(?:goes|go) on(?! the)|and it goes on": "say continues",
    r"hands? on": "say passes, returns",
    r"of those who": "name the actor",
    r"nobody is counted": "say this request is not counted",
    r"whose .{1,20} they are": "say anonymise",
    r"as far as it has come": "say so far",
    r"folds? in(?:to)?|folded in(?:to)?": "say roll up",
    r"[Hh]ouseholds?": "say client network",
    r"Surroundings": "say SessionState",
    r"take_off|settle_totals": "say subtract_sessions, refresh_page_totals",
    r"to_(?:merge|erase|forget|prune|rebuild)": "say preview_merge, …",
    r"PATIENCE_OF_A_PAGE|SILENCE_OF_THE_DEAD": "say REQUEST_RETRY_SECONDS, STALLED_AFTER",
    r"Arguments:": "say Args:, which Sphinx reads",
}
"""Regular expressions of whole words, each with what to write instead."""

SUFFIXES = {".py", ".html", ".js", ".css", ".md"}

FILES = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]
    + [
        path
        for folder in ("pagestats", "example_project", "benchmarks")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in SUFFIXES and "vendor" not in path.parts
    ]
)

BREAK = re.compile(r"""["'“”]?\s*\n\s*(?:f?["']|\#:?|\*(?!\*)|//)?\s*""")
"""The end of a line within a sentence, with the marks of a comment or of a string that continues."""


def found(text: str) -> list[str]:
    """Return each phrase in a text with some words around it and with what to write instead."""
    text = BREAK.sub(" ", text)
    return [
        f"“{text[max(0, match.start() - 30) : match.end() + 30].strip()}”: {instead}"
        for phrase, instead in PHRASES.items()
        for match in re.finditer(rf"(?<!\w)(?:{phrase})(?!\w)", text)
    ]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_has_none_of_the_phrases(path: Path) -> None:
    phrases = found(path.read_text())
    assert not phrases, "\n".join(phrases)


@pytest.mark.parametrize(
    "text",
    [
        "the visitors can't be told",
        '    "the visitors can\'t be"\n    f" told"',
        "# the visitors can't be\n    # told",
        "told = report(start, end)",
        "class Reckoning:",
        "a host that is none of the site's",
        "counts all days\nanew",
        "Arguments:\n    days: a number",
    ],
)
def test_a_phrase_is_found(text: str) -> None:
    assert len(found(text)) == 1


@pytest.mark.parametrize(
    "text",
    ["if value is None:", 'return it, or "" if there is none', "none (no visitors yet)", "welfare", "on_told_days"],
)
def test_a_plain_sentence_is_left_alone(text: str) -> None:
    assert found(text) == []
