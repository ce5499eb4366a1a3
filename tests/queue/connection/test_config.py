"""Settings: arguments, then the environment, then defaults; an invalid setting is refused in one sentence."""

import dataclasses
import re
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.places import ROOT
from zeroloss.reference.queue.config import Config, load_config, unknown_variables
from zeroloss.reference.queue.connection import connect
from zeroloss.reference.queue.errors import ConfigError

NUMBERS = [field.name for field in dataclasses.fields(Config) if field.type in (int, "int")]
LARGEST = 10 * 366 * 86_400_000
MAY_BE_ZERO = {
    "absence_ms",
    "ahead",
    "ahead_ms",
    "max_retries",
    "max_recoveries",
    "grace_ms",
    "max_tasks",
    "max_memory_bytes",
}


def refused(**settings: object) -> str:
    """Assert that these settings are refused, and return the sentence."""
    with pytest.raises(ConfigError) as caught:
        Config(**settings)  # type: ignore[arg-type]
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_the_defaults_make_sense_together() -> None:
    config = Config()
    assert (config.redis_url, config.namespace) == ("redis://127.0.0.1:6379/0", "tasks")
    assert (config.threads, config.max_retries) == (5, 3)


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().lease_ms = 1  # type: ignore[misc]


def test_an_argument_wins_over_the_environment_and_the_environment_over_the_default() -> None:
    environ = {"ZEROLOSS_THREADS": "7", "ZEROLOSS_NAMESPACE": "mail"}
    config = load_config(environ, threads=9)
    assert (config.threads, config.namespace, config.max_retries) == (9, "mail", 3)


def test_an_argument_that_is_None_was_not_given() -> None:
    assert load_config({"ZEROLOSS_THREADS": "7"}, threads=None).threads == 7


def test_an_empty_variable_was_not_given() -> None:
    assert load_config({"ZEROLOSS_THREADS": "", "REDIS_URL": "", "REDIS_ADDR": ""}) == Config()


def test_the_environment_is_the_process_s_own_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEROLOSS_THREADS", "8")
    assert load_config().threads == 8


def test_redis_addr_names_the_server_as_in_the_first_version() -> None:
    assert load_config({"REDIS_ADDR": "cache:6380"}).redis_url == "redis://cache:6380/0"


def test_redis_url_wins_over_redis_addr_and_an_argument_over_both() -> None:
    environ = {"REDIS_ADDR": "a:1", "REDIS_URL": "redis://b:2/3"}
    assert load_config(environ).redis_url == "redis://b:2/3"
    assert load_config(environ, redis_url="redis://c:4/5").redis_url == "redis://c:4/5"


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_can_be_set_by_its_variable(name: str) -> None:
    value = getattr(Config(), name)
    assert getattr(load_config({f"ZEROLOSS_{name.upper()}": str(value)}), name) == value


@pytest.mark.parametrize("text", ["five", "1.5", "1e3", "0x10", "-", "5s"])
def test_a_variable_that_is_not_a_number_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(ConfigError, match="ZEROLOSS_LEASE_MS must be a whole number") as caught:
        load_config({"ZEROLOSS_LEASE_MS": text})
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("ZEROLOSS_LEASE", "; did you mean ZEROLOSS_LEASE_MS?"),
        ("ZEROLOSS_RETRIES", "; did you mean ZEROLOSS_MAX_RETRIES?"),
        ("ZEROLOSS_REDISURL", "; did you mean ZEROLOSS_REDIS_URL?"),
        ("ZEROLOSS_QQQ", "."),
    ],
)
def test_an_unknown_variable_is_named_with_the_nearest_that_is(variable: str, meant: str) -> None:
    assert unknown_variables({variable: "1"}) == [f"{variable} is not a setting and has no effect{meant}"]


def test_a_foreign_variable_or_without_a_value_is_not_named() -> None:
    assert unknown_variables({"REDIS_URL": "x", "ZEROLOSSY": "x", "zeroloss_x": "x", "ZEROLOSS_QQQ": ""}) == []


def test_the_name_of_a_variable_forges_no_line_of_the_log() -> None:
    assert all(sentence.isprintable() for sentence in unknown_variables({"ZEROLOSS_\n2026 INFO forged": "1"}))


def test_no_variable_that_this_repository_uses_is_taken_for_a_mistake() -> None:
    # In a copy under these tests the harness is called zeroloss, and the queue in it may contain mistakes.
    folders = ("chaos", "zeroloss", "loadtests", "ci", "docs")
    found = [path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*")]
    # In bytecode any letter may follow a name.
    pages = [ROOT / path for path in found if not {"reference", "__pycache__"} & set(path.parts)]
    texts = [page.read_text(errors="replace") for page in [*pages, ROOT / "README.md"] if page.is_file()]
    names = {name for text in texts for name in re.findall(r"\bZEROLOSS_[A-Z_]*[A-Z]\b", text)}
    assert len(names) > 10
    assert unknown_variables(dict.fromkeys(names, "1")) == []


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [-1, 1.5, True, "10", None])
def test_a_number_that_is_not_a_whole_positive_one_is_refused_by_its_name(name: str, value: object) -> None:
    assert refused(**{name: value}).startswith(f"{name} must be a whole number from ")


@pytest.mark.parametrize("name", sorted(set(NUMBERS) - MAY_BE_ZERO))
def test_zero_is_refused_where_it_would_stop_the_queue(name: str) -> None:
    assert re.fullmatch(rf"{name} must be a whole number from 1 to \d+, not 0\.", refused(**{name: 0}))


@pytest.mark.parametrize("name", sorted(MAY_BE_ZERO))
def test_zero_is_accepted_where_it_means_never_or_none(name: str) -> None:
    assert getattr(Config(**{name: 0}), name) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_beyond_its_largest_is_refused_by_its_name_and_its_bounds(name: str) -> None:
    """Redis would refuse some within a script, after it has pushed the task; a socket or a lock would refuse others."""
    sentence = refused(**{name: 2**63 - 1})
    bounds = re.fullmatch(rf"{name} must be a whole number from [01] to (\d+), not {2**63 - 1}\.", sentence)
    assert bounds
    assert f"to {bounds[1]}, not " in refused(**{name: int(bounds[1]) + 1})
    others = {"lease_ms": LARGEST, "block_ms": 2_000_000_000, "backoff_max_ms": LARGEST, "max_body_bytes": 2**28}
    assert getattr(Config(**{**others, name: int(bounds[1])}), name) == int(bounds[1])  # type: ignore[arg-type]


def test_the_longest_wait_is_one_that_a_socket_and_a_thread_take() -> None:
    longest_s = Config(block_ms=2_000_000_000).socket_timeout_ms / 1000
    with socket.socket() as made:
        made.settimeout(longest_s)
    assert longest_s < threading.TIMEOUT_MAX


@pytest.mark.parametrize("namespace", ["", " ", "two words", "line\nbreak", "tab\t"])
def test_a_namespace_that_is_not_one_word_is_refused(namespace: str) -> None:
    assert refused(namespace=namespace).startswith("namespace must be a word")


@given(lease_ms=st.integers(1, 10_000), renew_ms=st.integers(1, 10_000))
def test_a_heartbeat_must_fit_three_times_into_its_lease(lease_ms: int, renew_ms: int) -> None:
    if renew_ms * 3 <= lease_ms:
        assert Config(lease_ms=lease_ms, renew_ms=renew_ms).renew_ms == renew_ms
    else:
        sentence = refused(lease_ms=lease_ms, renew_ms=renew_ms)
        assert f"renew_ms ({renew_ms})" in sentence
        assert f"lease_ms ({lease_ms})" in sentence


@given(backoff_ms=st.integers(1, 10_000), backoff_max_ms=st.integers(1, 10_000))
def test_the_longest_backoff_is_not_shorter_than_the_first(backoff_ms: int, backoff_max_ms: int) -> None:
    if backoff_max_ms >= backoff_ms:
        assert Config(backoff_ms=backoff_ms, backoff_max_ms=backoff_max_ms).backoff_max_ms == backoff_max_ms
    else:
        assert "backoff_max_ms" in refused(backoff_ms=backoff_ms, backoff_max_ms=backoff_max_ms)


SOME_NUMBERS = st.fixed_dictionaries({}, optional={name: st.integers(-1, 100_000) for name in NUMBERS})


@given(settings=SOME_NUMBERS)
def test_any_numbers_are_either_refused_in_one_sentence_that_names_one_of_them_or_keep_every_relation(
    settings: dict[str, int],
) -> None:
    try:
        config = Config(**settings)  # type: ignore[arg-type]
    except ConfigError as error:
        assert str(error).endswith(".")
        assert "\n" not in str(error)
        assert any(name in str(error) for name in settings)
        return
    assert all(getattr(config, name) == value for name, value in settings.items())
    assert all(getattr(config, name) >= (0 if name in MAY_BE_ZERO else 1) for name in NUMBERS)
    assert 3 * config.renew_ms <= config.lease_ms
    assert config.backoff_ms <= config.backoff_max_ms
    assert config.max_task_bytes <= config.max_body_bytes
    assert config.block_ms < config.socket_timeout_ms
    assert config.durability_timeout_ms < config.socket_timeout_ms


@given(settings=SOME_NUMBERS)
def test_the_environment_says_the_same_as_arguments_do(settings: dict[str, int]) -> None:
    environ = {f"ZEROLOSS_{name.upper()}": str(value) for name, value in settings.items()}
    try:
        expected: object = Config(**settings)  # type: ignore[arg-type]
    except ConfigError as error:
        with pytest.raises(ConfigError) as caught:
            load_config(environ)
        assert str(caught.value) == str(error)
    else:
        assert load_config(environ) == expected


@pytest.mark.parametrize(
    ("bounded", "bound", "step", "others", "sentence"),
    [
        ("renew_ms", 3_000, 1, {"lease_ms": 9_000}, "must be at most a third of lease_ms (9000), so that two lost"
         " heartbeats do not cost a living worker its tasks."),
        ("durability_timeout_ms", 5_000, 1, {}, "must be at most block_ms + 4000 (5000): the client waits only"
         " 1000 ms longer for a reply of Redis."),
        ("backoff_max_ms", 1_000, -1, {}, "must be at least backoff_ms (1000)."),
        ("max_body_bytes", 1_048_576, -1, {}, "must be at least max_task_bytes (1048576)."),
    ],
)  # fmt: skip
def test_a_bound_is_still_accepted_and_what_is_beyond_it_is_refused_with_the_reason(
    bounded: str, bound: int, step: int, others: dict[str, int], sentence: str
) -> None:
    settings = {bounded: bound, **others}
    assert getattr(Config(**settings), bounded) == bound  # type: ignore[arg-type]
    assert refused(**{**settings, bounded: bound + step}) == f"{bounded} ({bound + step}) {sentence}"


def test_a_body_that_could_not_hold_one_task_is_refused() -> None:
    assert refused(max_task_bytes=10, max_body_bytes=9).startswith("max_body_bytes (9)")


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", "redis://localhost:port/0", ""])
def test_a_url_that_is_not_redis_s_is_refused_by_its_name(url: str) -> None:
    with pytest.raises(ConfigError, match="redis_url") as caught:
        connect(Config(redis_url=url))
    assert str(caught.value).endswith(".")
