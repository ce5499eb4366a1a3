"""`zeroloss run --corpus`: plans of failed runs are kept, and replayed before each new run."""

from pathlib import Path

import pytest
from support.places import TARGETS
from zeroloss.campaigns.corpus import worst
from zeroloss.cli import execute

FORGETS = f"{TARGETS}:Forgets"
RUN = ["run", "--redis", "embedded", "--tasks", "8", "--faults", "none"]


def test_a_plan_that_failed_is_kept_and_replayed_before_the_next_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = tmp_path / "corpus"
    words = [*RUN, "--target", FORGETS, "--corpus", str(corpus)]
    assert execute([*words, "--seed", "1", "--out", str(tmp_path / "first")]) == 1
    assert [path.name for path in corpus.iterdir()] == ["Forgets-seed1-8-1.json"]
    assert "Its plan is kept in" in " ".join(capsys.readouterr().out.split())
    words[words.index("--tasks") + 1] = "2"
    assert execute([*words, "--seed", "2", "--out", str(tmp_path / "second")]) == 1
    assert (tmp_path / "second-Forgets-seed1-8-1" / "result.json").exists()
    assert len(list(corpus.iterdir())) == 1  # the target loses every third task, so none of two


def test_a_corpus_of_another_target_is_left_alone_and_a_pass_is_not_kept(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    assert execute([*RUN, "--target", FORGETS, "--corpus", str(corpus), "--out", str(tmp_path / "a")]) == 1
    assert execute([*RUN, "--target", "brpop", "--corpus", str(corpus), "--out", str(tmp_path / "b")]) == 0
    assert len(list(corpus.iterdir())) == 1


def test_a_corpus_that_holds_no_plans_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.json").write_text("{}")
    assert execute([*RUN, "--target", "brpop", "--corpus", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("zeroloss: --corpus: ")
    assert said.count("\n") == 1


def test_the_worst_run_gives_the_exit_status() -> None:
    assert worst([0, 4, 3]) == 3
    assert worst([0, 1, 70]) == 1
    assert worst([0]) == 0
