"""How many outages each worker saw: said in the report, and no verdict."""

from support.histories import Story
from zeroloss.checker.judge import judge


def crash(story: Story, number: int, met: list[int] | None) -> Story:
    story.add("fault", "begin", fault="server-sigkill", number=number)
    story.add("fault", "effective", fault="server-sigkill", number=number, evidence="gone", met=met)
    return story.add("fault", "end", fault="server-sigkill", number=number)


def notes(story: Story) -> list[str]:
    return [note for note in judge(story.drained().end().events).notes if "outage" in note]


def test_each_worker_s_own_outages_are_counted() -> None:
    story = Story().begin(plan={"workers": 2}).submit("a").ran("a")
    assert notes(crash(crash(crash(story, 1, [1, 2]), 2, [1]), 3, [1, 2])) == [
        "Of 3 faults that met the server or all workers, each worker saw 2 to 3 as an outage of its own: it had "
        "completed a task since the one before."
    ]


def test_where_nobody_says_what_workers_saw_nothing_is_counted() -> None:
    assert notes(crash(Story().begin(plan={"workers": 2}).submit("a").ran("a"), 1, None)) == []
