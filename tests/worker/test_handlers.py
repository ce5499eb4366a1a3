"""Handlers: registered by task type, found by import path, and each mistake is reported in one sentence."""

import functools
import importlib
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from zeroloss.reference.queue.config import Config
from zeroloss.reference.queue.errors import ConfigError
from zeroloss.reference.queue.task import Task
from zeroloss.reference.worker import handlers
from zeroloss.reference.worker.handlers import Retry, around, handler, load_handlers, registry


@pytest.fixture(autouse=True)
def _a_registry_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    before = dict(registry)
    modules = set(sys.modules)
    registry.clear()
    monkeypatch.setattr(handlers, "_around", None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    importlib.invalidate_caches()  # the files of the folder may be newer than its cached listing shows
    yield
    registry.clear()
    registry.update(before)
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write_app(name: str, text: str) -> None:
    path = Path(f"{name.replace('.', '/')}.py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))


def registered() -> dict[str, Any]:
    return {task_type: made.function for task_type, made in registry.items()}


def test_a_handler_is_registered_under_its_type_and_stays_a_plain_function() -> None:
    @handler("email")
    def send(task: Task) -> str:
        return f"sent {task.id}"

    assert registered() == {"email": send}
    assert send.__name__ == "send"


def test_one_function_may_handle_several_types() -> None:
    @handler("a")
    @handler("b")
    def both(task: Task) -> None: ...

    assert registered() == {"a": both, "b": both}


def test_a_type_with_two_handlers_is_refused_and_the_first_stays() -> None:
    @handler("email")
    def first(task: Task) -> None: ...

    with pytest.raises(ConfigError, match="Task type 'email' has two handlers"):

        @handler("email")
        def second(task: Task) -> None: ...

    assert registered() == {"email": first}


def test_an_app_is_found_in_the_current_folder() -> None:
    write_app("my_app", "from zeroloss.reference import handler\n@handler('email')\ndef send(task): ...\n")
    assert list(load_handlers("my_app", Config())) == ["email"]


def test_the_current_folder_comes_first_and_is_added_once() -> None:
    write_app("my_app", "from zeroloss.reference import handler\n@handler('email')\ndef send(task): ...\n")
    for _ in range(2):
        load_handlers("my_app", Config())
        assert [sys.path[0], sys.path.count(str(Path.cwd()))] == [str(Path.cwd()), 1]


def test_an_app_is_found_by_a_dotted_path() -> None:
    write_app("shop.tasks", "from zeroloss.reference import handler\n@handler('bill')\ndef bill(task): ...\n")
    assert list(load_handlers("shop.tasks", Config())) == ["bill"]


@pytest.mark.parametrize(("app", "missing"), [("no_such_app", "no_such_app"), ("shop.nothing", "shop.nothing")])
def test_an_app_that_is_not_there_is_refused_by_its_name(app: str, missing: str) -> None:
    write_app("shop.tasks", "")
    with pytest.raises(ConfigError, match=f"--app {app}: there is no module '{missing}'") as caught:
        load_handlers(app, Config())
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("app", ["", ".tasks", "..", "my app.", "tasks.py/"])
def test_a_text_that_is_not_an_import_path_is_refused_in_one_sentence(app: str) -> None:
    with pytest.raises(ConfigError, match="--app"):
        load_handlers(app, Config())


def test_an_app_that_registers_nothing_is_refused() -> None:
    write_app("idle_app", "x = 1\n")
    with pytest.raises(ConfigError, match="it registers no handler"):
        load_handlers("idle_app", Config())


def test_an_app_s_own_mistake_is_shown_as_it_is() -> None:
    write_app("broken_app", "import a_library_that_is_not_installed\n")
    with pytest.raises(ModuleNotFoundError, match="a_library_that_is_not_installed"):
        load_handlers("broken_app", Config())


async def coroutine_function(task: Task) -> None: ...


def generator_function(task: Task) -> Iterator[int]:
    yield 1


async def async_generator_function(task: Task) -> AsyncIterator[int]:
    yield 1


class AsyncCallable:
    async def __call__(self, task: Task) -> None: ...


class LazyCallable:
    def __call__(self, task: Task) -> Iterator[int]:
        yield 1


class Mailer:
    async def send(self, task: Task) -> None: ...

    @staticmethod
    async def send_now(task: Task) -> None: ...

    @classmethod
    async def send_later(cls, task: Task) -> None: ...


LAZY = {
    "a generator function": (generator_function, "a generator function"),
    "an async generator function": (async_generator_function, "an async generator function"),
    "an object whose __call__ is a generator": (LazyCallable(), "a generator function"),
    "a partial": (functools.partial(generator_function), "a generator function"),
    "a partial of a partial's object": (functools.partial(functools.partial(LazyCallable())), "a generator function"),
}
ASYNC = {
    "a coroutine function": coroutine_function,
    "an object with an async __call__": AsyncCallable(),
    "a partial": functools.partial(coroutine_function),
    "a partial of a partial's object": functools.partial(functools.partial(AsyncCallable())),
    "a bound method": Mailer().send,
    "a partial of a bound method": functools.partial(Mailer().send),
    "a static method": Mailer.__dict__["send_now"],
    "a class method": Mailer.send_later,
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


@pytest.mark.parametrize("function", ASYNC.values(), ids=ASYNC)
def test_an_async_function_of_any_kind_is_registered_as_one(function: Callable[[Task], Any]) -> None:
    assert handler("email")(function) is function
    assert registry["email"].is_async


def test_a_plain_function_around_an_async_one_is_a_handler() -> None:
    """For example a wrapper that calls `asyncio.run`; `functools.wraps` gives it the look of the async function."""

    @handler("email")
    @functools.wraps(coroutine_function)
    def run(task: Task) -> None: ...

    assert registered() == {"email": run}
    assert not registry["email"].is_async


@pytest.mark.parametrize("plain", [print, functools.partial(print), str, Mailer], ids=lambda plain: repr(plain)[:20])
def test_any_other_callable_is_a_handler(plain: Callable[[Task], Any]) -> None:
    assert handler("email")(plain) is plain


def test_a_handler_s_own_settings_hold_in_place_of_the_worker_s_and_no_others_change() -> None:
    handler("email", max_retries=0, timeout=1.5, backoff=90)(print)
    handler("sms")(print)
    config = Config(max_retries=7, backoff_ms=10, backoff_max_ms=60_000, threads=2)
    email, sms = (registry[name].under(config).config for name in ("email", "sms"))
    assert email
    assert (email.max_retries, email.task_timeout_ms, email.backoff_ms, email.threads) == (0, 1_500, 90_000, 2)
    assert email.backoff_max_ms == 90_000, "a longer first wait raises the longest"
    assert sms == config


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"max_retries": -1}, "max_retries must be a whole number from 0 to 1000000000000000, not -1."),
        ({"max_retries": 1.5}, "max_retries must be a whole number from 0 to 1000000000000000, not 1.5."),
        ({"timeout": 0}, "timeout must be a number of seconds above 0, not 0."),
        ({"timeout": "5"}, "timeout must be a number of seconds above 0, not '5'."),
        ({"timeout": float("inf")}, "timeout must be a number of seconds above 0, not inf."),
        ({"timeout": True}, "timeout must be a number of seconds above 0, not True."),
        ({"backoff": float("nan")}, "backoff must be a number of seconds above 0, not nan."),
    ],
    ids=str,
)
def test_a_setting_that_is_invalid_is_refused_where_it_is_written(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        handler("email", **settings)(print)
    assert str(caught.value) == sentence
    assert registry == {}


class Email(msgspec.Struct):
    to: str


def takes_a_struct(task: Task, email: Email) -> None: ...
def takes_a_struct_by_name(task: Task, email: "Email") -> None: ...
def takes_something_optional(task: Task, retries: int = 3) -> None: ...
def takes_keywords(task: Task, *, log: Any = None, **more: Any) -> None: ...


@pytest.mark.parametrize("function", [takes_a_struct, takes_a_struct_by_name], ids=["itself", "as a text"])
def test_a_second_parameter_that_is_annotated_with_a_struct_is_the_payload_s_type(function: Any) -> None:
    assert handler("email")(function) is function
    assert registry["email"].payload_type is Email


@pytest.mark.parametrize("function", [takes_something_optional, takes_keywords])
def test_a_parameter_that_need_not_be_given_says_nothing_of_the_payload(function: Any) -> None:
    handler("email")(function)
    assert registry["email"].payload_type is None


def takes_a_dict(task: Task, email: dict[str, str]) -> None: ...
def takes_anything(task: Task, email) -> None: ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize("function", [takes_a_dict, takes_anything])
def test_a_second_parameter_without_a_struct_is_refused_by_its_name(function: Any) -> None:
    with pytest.raises(ConfigError, match="'email' takes a second parameter, 'email', which must be annotated"):
        handler("email")(function)
    assert registry == {}


def test_a_second_hook_and_one_that_would_not_run_are_refused() -> None:
    with pytest.raises(ConfigError, match="is an async function: make it a plain function"):
        around(coroutine_function)
    around(lambda _task, call: call())
    with pytest.raises(ConfigError, match="Two functions are registered with @around"):
        around(lambda _task, call: call())


@pytest.mark.parametrize("after", [-1, float("nan"), 1e300])
def test_a_retry_after_a_time_that_is_invalid_cannot_be_raised(after: float) -> None:
    with pytest.raises(ValueError, match="takes from 0 to 31622400 seconds"):
        Retry(after=after)
