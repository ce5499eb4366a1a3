"""The tutorial's files and commands work as described, in order."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from support.places import ROOT

PAGE = (ROOT / "docs" / "tutorial.md").read_text()
FILE_OR_COMMAND = re.compile(r"`(\w+\.py)`[^`]*```python\n(.*?)```|```sh\n(.*?)```(?:[^`]*?```\n(.*?)```)?", re.DOTALL)


def test_the_tutorial_finds_the_loss_and_its_repair_passes(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    _, _, steps = PAGE.partition("## 2.")  # step 1 installs packages that the tests have
    statuses = []
    for file, text, command, printed in FILE_OR_COMMAND.findall(steps):
        if file:
            (tmp_path / file).write_text(text)
            continue
        ended = subprocess.run(
            shlex.split(command),
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "PYTHONPATH": str(tmp_path), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert printed.strip() in ended.stdout, ended.stdout + ended.stderr
        statuses.append(ended.returncode)
    assert statuses == [1, 0, 0, 0]
