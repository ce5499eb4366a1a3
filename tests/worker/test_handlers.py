"""Handlers: registered by task type, found by import path, and every mistake is named in one sentence."""

import functools
import importlib
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from zeroloss.reference.queue.errors import ConfigError
from zeroloss.reference.queue.task import Task
from zeroloss.reference.worker.handlers import handler, load_handlers, registry


@pytest.fixture(autouse=True)
def _a_registry_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    before = dict(registry)
    modules = set(sys.modules)
    registry.clear()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    importlib.invalidate_caches()  # what is in the folder was written within the clock's last tick
    yield
    registry.clear()
    registry.update(before)
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write_app(name: str, text: str) -> None:
    path = Path(f"{name.replace('.', '/')}.py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))


def test_a_handler_is_registered_under_its_type_and_stays_a_plain_function() -> None:
    @handler("email")
    def send(task: Task) -> str:
        return f"sent {task.id}"

    assert registry == {"email": send}
    assert send.__name__ == "send"


def test_one_function_may_handle_several_types() -> None:
    @handler("a")
    @handler("b")
    def both(task: Task) -> None: ...

    assert registry == {"a": both, "b": both}


def test_a_type_with_two_handlers_is_refused_and_the_first_stays() -> None:
    @handler("email")
    def first(task: Task) -> None: ...

    with pytest.raises(ConfigError, match="Task type 'email' has two handlers"):

        @handler("email")
        def second(task: Task) -> None: ...

    assert registry == {"email": first}


def test_an_app_is_found_in_the_current_folder() -> None:
    write_app("my_app", "from zeroloss.reference import handler\n@handler('email')\ndef send(task): ...\n")
    assert list(load_handlers("my_app")) == ["email"]


def test_the_current_folder_comes_first_and_is_added_once() -> None:
    write_app("my_app", "from zeroloss.reference import handler\n@handler('email')\ndef send(task): ...\n")
    for _ in range(2):
        load_handlers("my_app")
        assert [sys.path[0], sys.path.count(str(Path.cwd()))] == [str(Path.cwd()), 1]


def test_an_app_is_found_by_a_dotted_path() -> None:
    write_app("shop.tasks", "from zeroloss.reference import handler\n@handler('bill')\ndef bill(task): ...\n")
    assert list(load_handlers("shop.tasks")) == ["bill"]


@pytest.mark.parametrize(("app", "missing"), [("no_such_app", "no_such_app"), ("shop.nothing", "shop.nothing")])
def test_an_app_that_is_not_there_is_refused_by_its_name(app: str, missing: str) -> None:
    write_app("shop.tasks", "")
    with pytest.raises(ConfigError, match=f"--app {app}: there is no module '{missing}'") as caught:
        load_handlers(app)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("app", ["", ".tasks", "..", "my app.", "tasks.py/"])
def test_a_text_that_is_no_import_path_is_refused_in_one_sentence(app: str) -> None:
    with pytest.raises(ConfigError, match="--app"):
        load_handlers(app)


def test_an_app_that_registers_nothing_is_refused() -> None:
    write_app("idle_app", "x = 1\n")
    with pytest.raises(ConfigError, match="it registers no handler"):
        load_handlers("idle_app")


def test_an_app_s_own_mistake_is_shown_as_it_is() -> None:
    write_app("broken_app", "import a_library_that_is_not_installed\n")
    with pytest.raises(ModuleNotFoundError, match="a_library_that_is_not_installed"):
        load_handlers("broken_app")


async def coroutine_function(task: Task) -> None: ...


def generator_function(task: Task) -> Iterator[int]:
    yield 1


async def async_generator_function(task: Task) -> AsyncIterator[int]:
    yield 1


class AsyncCallable:
    async def __call__(self, task: Task) -> None: ...


class Mailer:
    async def send(self, task: Task) -> None: ...

    @staticmethod
    async def send_now(task: Task) -> None: ...

    @classmethod
    async def send_later(cls, task: Task) -> None: ...


LAZY = {
    "a coroutine function": (coroutine_function, "an async function"),
    "a generator function": (generator_function, "a generator function"),
    "an async generator function": (async_generator_function, "an async generator function"),
    "an object with an async __call__": (AsyncCallable(), "an async function"),
    "a partial": (functools.partial(coroutine_function), "an async function"),
    "a partial of a partial's object": (functools.partial(functools.partial(AsyncCallable())), "an async function"),
    "a bound method": (Mailer().send, "an async function"),
    "a partial of a bound method": (functools.partial(Mailer().send), "an async function"),
    "a static method": (Mailer.__dict__["send_now"], "an async function"),
    "a class method": (Mailer.send_later, "an async function"),
}


@pytest.mark.parametrize(("lazy", "kind"), LAZY.values(), ids=LAZY)
def test_a_handler_whose_call_would_run_nothing_is_refused_when_it_is_registered(
    lazy: Callable[[Task], Any], kind: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        handler("email")(lazy)
    assert str(caught.value).startswith("The handler of task type 'email' is ")
    assert f" is {kind}, " in str(caught.value)
    assert str(caught.value).endswith("make it a plain function.")
    assert registry == {}


def test_a_plain_function_around_an_async_one_is_a_handler() -> None:
    """As one that runs it with `asyncio.run`; `functools.wraps` makes it look like the other."""

    @handler("email")
    @functools.wraps(coroutine_function)
    def run(task: Task) -> None: ...

    assert registry == {"email": run}


@pytest.mark.parametrize("plain", [print, functools.partial(print), Task, Mailer], ids=lambda plain: repr(plain)[:20])
def test_any_other_callable_is_a_handler(plain: Callable[[Task], Any]) -> None:
    assert handler("email")(plain) is plain
