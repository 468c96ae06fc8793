"""The tests, and what they share. docs/architecture.md says what each folder needs."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
