"""What a repository tells those who contribute to it: its files are valid, and say what the project does."""

import configparser
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]


def test_the_hooks_before_a_commit_run_the_commands_of_the_lint_environment() -> None:
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    assert local["repo"] == "local"
    assert [hook["entry"] for hook in local["hooks"]] == tox["testenv:lint"]["commands"].split("\n")[1:]
    for hook in local["hooks"]:
        assert (hook["language"], hook["pass_filenames"]) == ("system", False)  # the entry names what it checks
