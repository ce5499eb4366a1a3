"""The files for CI pipelines: they are valid for GitHub and GitLab, and their commands work."""

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.places import ROOT
from support.processes.programs import tool
from zeroloss.checker.verdicts import Verdict
from zeroloss.report.result import read
from zeroloss.target import load_target

ACTION = ROOT / "ci" / "github" / "action.yml"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
DEPENDABOT = ROOT / ".github" / "dependabot.yml"
STARTER = ROOT / "chaos" / "starter" / "workflow.yml.j2"
COMPONENT = ROOT / "ci" / "gitlab" / "templates" / "zeroloss.yml"
SCRIPT = ROOT / "chaos" / "cli" / "ci.py"
SETTINGS = {"TARGET", "FAULTS", "PROFILE", "BACKEND", "SEED", "OUT"}
SMALL = {"faults": "worker-sigkill", "profile": "quick", "backend": "embedded", "seed": "1"}


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return the text with the expressions of both services replaced: `${{ inputs.x }}`, `$[[ inputs.x ]]`."""
    return re.sub(r"\$(?:\{\{|\[\[) ([\w.]+) (?:\}\}|\]\])", lambda found: values[found[1]], text)


def component(values: Mapping[str, str]) -> dict[str, Any]:
    """Return the job that results from the component."""
    head, body = COMPONENT.read_text().split("\n---\n")
    inputs = yaml.safe_load(head)["spec"]["inputs"]
    given = {f"inputs.{name}": str((one or {}).get("default", "")) for name, one in inputs.items()} | values
    job: dict[str, Any] = yaml.safe_load(filled(body, given))
    return job


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment in which this distribution can be installed without a network."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "venv")  # the shared libraries include pip
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    libraries = Path(pytest.__file__).parents[1]
    (site / "libraries.pth").write_text(f"{libraries}\n")
    for name in ("chaos", "reference", "loadtests", "ci"):
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    return folder


def run_step(line: str, installed: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a step as a CI runner does."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ZEROLOSS_", "GITHUB"))}
    environment = {
        **kept,
        "PATH": f"{installed / 'venv' / 'bin'}:/usr/bin:/bin",
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip inverts this: 0 turns isolation off
        **variables,
    }
    return subprocess.run(
        ["sh", "-e", "-c", line],
        cwd=installed,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_workflows_and_the_action_are_what_github_s_schemas_say() -> None:
    tool("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)
    tool("check-jsonschema", "--builtin-schema", "vendor.github-actions", ACTION)
    tool("check-jsonschema", "--builtin-schema", "vendor.dependabot", DEPENDABOT)


def test_zizmor_finds_nothing_unsafe_in_them() -> None:
    tool("zizmor", "--offline", "--no-progress", "--strict-collection", *WORKFLOWS, ACTION, DEPENDABOT)


def test_an_action_of_others_is_the_same_commit_everywhere_and_what_keeps_it_new_looks_at_each_file() -> None:
    pins: dict[str, set[str]] = {}
    for path in (*WORKFLOWS, ACTION, STARTER):
        for action, commit in re.findall(r"uses: (actions/[\w-]+)@(.*)", path.read_text()):
            pins.setdefault(action, set()).add(commit)
    assert pins.keys() == {"actions/checkout", "actions/setup-python", "actions/upload-artifact"}
    for commits in pins.values():
        (commit,) = commits
        assert re.fullmatch(r"[0-9a-f]{40} # v\d+\.\d+\.\d+", commit)
    (update,) = yaml.safe_load(DEPENDABOT.read_text())["updates"]
    # "/" stands for .github/workflows. Dependabot cannot read the starter, a template: the lines above check its pins.
    assert update["directories"] == ["/", f"/{ACTION.parent.relative_to(ROOT)}"]


def test_the_component_is_what_gitlab_s_schema_says(tmp_path: Path) -> None:
    head = COMPONENT.read_text().split("\n---\n")[0]
    (tmp_path / "head.yml").write_text(head)
    (tmp_path / "job.yml").write_text(yaml.safe_dump(component({"inputs.target": "reference"})))
    for name in ("head.yml", "job.yml"):
        tool("check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", tmp_path / name)


def test_the_job_for_gitlab_on_the_page_is_valid_and_has_the_component_s_variables(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "pipelines.md").read_text(), re.DOTALL)
    (tmp_path / "job.yml").write_text(text)
    tool("check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", tmp_path / "job.yml")
    job, other = yaml.safe_load(text)["zeroloss"], component({"inputs.target": "reference"})["zeroloss"]
    assert job["variables"].keys() <= other["variables"].keys()
    assert (job["artifacts"]["paths"], job["script"][-1]) == (other["artifacts"]["paths"], other["script"][-1])
    assert job["artifacts"]["reports"] == other["artifacts"]["reports"]


def test_the_component_installs_nothing_by_a_name_that_may_be_another_project_s() -> None:
    (head, _) = COMPONENT.read_text().split("\n---\n")
    assert "default" not in yaml.safe_load(head)["spec"]["inputs"]["requirement"]


def test_the_reusable_workflow_hands_every_input_on_to_the_action() -> None:
    reusable = yaml.safe_load((ROOT / ".github" / "workflows" / "zeroloss.yml").read_text())
    # YAML 1.1 reads the word `on` as true.
    inputs = reusable[True]["workflow_call"]["inputs"]
    (step,) = [step for step in reusable["jobs"]["zeroloss"]["steps"] if step.get("uses") == "$/ci/github"]
    action = yaml.safe_load(ACTION.read_text())["inputs"]
    assert step["with"] == {name: f"${{{{ inputs.{name} }}}}" for name in action if name != "requirement"}
    assert set(inputs) == set(step["with"]) | {"python", "install"}
    for name in step["with"]:
        assert inputs[name]["description"] == action[name]["description"]
        assert inputs[name].get("default") == action[name].get("default")


def test_every_setting_of_the_script_is_set_by_each_pipeline() -> None:
    text = SCRIPT.read_text()
    assert set(re.findall(r"^ZEROLOSS_([A-Z]+)", text, re.MULTILINE)) == SETTINGS
    assert set(re.findall(r"_setting\(\"([A-Z]+)\"", text)) == SETTINGS
    (step,) = [step for step in yaml.safe_load(ACTION.read_text())["runs"]["steps"] if step.get("run") == "zeroloss-ci"]
    assert set(step["env"]) == {f"ZEROLOSS_{name}" for name in SETTINGS}
    variables = set(component({"inputs.target": "reference"})["zeroloss"]["variables"])
    assert variables - {"ZEROLOSS_REQUIREMENT", "ZEROLOSS_INSTALL"} == {f"ZEROLOSS_{name}" for name in SETTINGS}


def test_the_script_refuses_a_profile_that_there_is_not_in_one_sentence() -> None:
    environment = {**os.environ, "ZEROLOSS_PROFILE": "heroic"}
    words = [sys.executable, "-m", "zeroloss.cli.ci"]
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == ("zeroloss-ci: ZEROLOSS_PROFILE must be quick, default or thorough, not 'heroic'.\n")


def test_the_script_runs_nothing_where_it_is_asked_for_help_or_given_an_argument(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "zeroloss.cli.ci"]
    helped = subprocess.run([*words, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert helped.returncode == 0
    assert all(f"ZEROLOSS_{name} " in helped.stdout for name in SETTINGS)
    refused = subprocess.run([*words, "--target", "x"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "Unexpected argument '--target'" in refused.stderr
    assert not [*tmp_path.iterdir()]


def test_the_script_shows_no_summary_of_a_run_that_was_there_before(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{}")
    environment = {**os.environ, "ZEROLOSS_OUT": str(tmp_path), "ZEROLOSS_PROFILE": "quick", "GITHUB_ACTIONS": "true"}
    words = [sys.executable, "-m", "zeroloss.cli.ci"]
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    says = f"ZEROLOSS_OUT {tmp_path} exists and is not an empty directory: delete it, or name another."
    assert ended.stderr == f"zeroloss-ci: {says}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_the_action_s_commands_fail_the_job_and_name_the_lost_task_on_its_page_and_in_an_annotation(
    installed: Path, tmp_path: Path
) -> None:
    action = yaml.safe_load(ACTION.read_text())
    defaults = {name: str(one.get("default", "")) for name, one in action["inputs"].items()}
    values = {f"inputs.{name}": value for name, value in {**defaults, **SMALL, "target": "brpop"}.items()}
    values["runner.temp"] = str(tmp_path)
    variables = {
        "GITHUB_ACTION_PATH": str(installed / "source" / "ci" / "github"),
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "page.md"),
    }
    install, run = [step for step in action["runs"]["steps"] if "run" in step]
    ended = []
    for step in (install, run):
        given = {name: filled(value, values) for name, value in step["env"].items()}
        ended.append(run_step(step["run"], installed, **variables, **given))
    assert ended[0].returncode == 0, ended[0].stdout + ended[0].stderr
    assert ended[1].returncode == 1, ended[1].stdout + ended[1].stderr
    lost = read(tmp_path / "zeroloss-report").tasks("LOST")  # type: ignore[arg-type]
    assert lost
    page = (tmp_path / "page.md").read_text()
    assert page.startswith("## zeroloss: VIOLATION\n")
    assert page == (tmp_path / "zeroloss-report" / "summary.md").read_text()
    (annotation,) = [line for line in ended[1].stdout.splitlines() if line.startswith("::")]
    assert annotation.startswith("::error title=zeroloss VIOLATION::")
    for text in (page, annotation):
        assert sorted(lost)[0] in text
        assert "(worker-sigkill) interrupted" in text
        assert "zeroloss replay" in text


def test_the_component_s_commands_run_as_written_and_leave_what_it_uploads(installed: Path) -> None:
    values = {f"inputs.{name}": value for name, value in SMALL.items()}
    values |= {"inputs.target": "reference", "inputs.requirement": str(installed / "source")}
    job = component(values)["zeroloss"]
    for line in job["script"]:
        ended = run_step(line, installed, **job["variables"])
        assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (installed / job["artifacts"]["reports"]["junit"]).is_file()
    (folder,) = job["artifacts"]["paths"]
    assert read(installed / folder).verdict is Verdict.PASS
    assert json.loads((installed / folder / "plan.json").read_text())["seed"] == 1


def test_an_installation_begins_in_a_repository_copies_the_queue_and_gives_pytest_its_fixture(
    installed: Path, tmp_path: Path
) -> None:
    lines = [
        f"python -m pip install {installed / 'source'}",
        f"zeroloss init {tmp_path}",
        f"python -m zeroloss.reference vendor {tmp_path} --package theirs",
        f"python -m pytest --rootdir {tmp_path} --fixtures {tmp_path}",
    ]
    for line in lines:
        ended = run_step(line, installed)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "zeroloss.run(MyQueue(), ...).assert_at_least_once()" in ended.stdout
    assert (tmp_path / "tests" / "zeroloss_target.py").is_file()
    assert (tmp_path / "theirs" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_the_targets_that_this_repository_s_own_pipeline_tests_exist() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    given = [job["with"] for job in jobs.values() if "with" in job]
    given += [
        step["with"] for job in jobs.values() for step in job.get("steps", ()) if "target" in step.get("with", ())
    ]
    assert len(given) == 2
    for one in given:
        assert load_target(one["target"]).worker


def test_the_nightly_workflow_proves_with_options_that_exist_and_keeps_what_it_finds() -> None:
    (job,) = yaml.safe_load((ROOT / ".github" / "workflows" / "nightly.yml").read_text())["jobs"].values()
    (line,) = [step["run"] for step in job["steps"] if step.get("name") == "Prove"]
    words = line.replace('"$HOURS"', "4").replace('"$((NIGHT * 1000))"', "7000").split()
    assert words[0] == "zeroloss"
    help_text = subprocess.run([sys.executable, "-m", "zeroloss", "prove", "--help"], capture_output=True, text=True)
    assert all(word in help_text.stdout for word in words if word.startswith("--"))
    (kept,) = [step["with"] for step in job["steps"] if "upload-artifact" in step.get("uses", "")]
    assert words[words.index("--out") + 1] == kept["path"]
