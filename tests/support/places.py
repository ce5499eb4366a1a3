"""Paths in the repository."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
APPS = TESTS / "support" / "apps"
TARGETS = APPS / "chaos_targets.py"
