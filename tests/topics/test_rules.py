"""What an app declares about topics, and what is found for the name of one."""

from __future__ import annotations

import math
import typing as t

import pytest
from werkzeug.exceptions import Forbidden
from werkzeug.routing import BaseConverter

from flask_sockets.topics.names import check_name
from flask_sockets.topics.rules import (
    CACHE_SIZE,
    Declaration,
    Overflow,
    TopicOptions,
    TopicRules,
)


@pytest.fixture
def rules() -> TopicRules:
    return TopicRules()


def add(
    rules: TopicRules,
    pattern: str,
    authorizer: t.Callable[..., t.Any] | None = None,
    converters: t.Mapping[str, type[BaseConverter]] | None = None,
    **options: t.Any,
) -> None:
    declaration = Declaration(TopicOptions(**options), authorizer)
    rules.add(pattern, declaration, converters or {})


def test_a_topic_has_the_options_of_the_pattern_that_matches_it(
    rules: TopicRules,
) -> None:
    add(rules, "room/<name>", history=5, ttl=60, presence=True, overflow="latest")
    options = rules.match("room/lobby").options
    assert options == TopicOptions(5, 60, True, Overflow.LATEST)


@pytest.mark.parametrize(
    "name", ["room", "room/", "room/a/b", "/room/a", "room//a", "rooms/a", "ROOM/a"]
)
def test_a_topic_that_no_pattern_matches_is_a_plain_one(
    rules: TopicRules, name: str
) -> None:
    add(rules, "room/<name>", lambda name: False, history=5)
    topic = rules.match(name)
    assert topic.options == TopicOptions()
    topic.authorize()


def test_the_authorizer_gets_what_the_converters_make_of_the_name(
    rules: TopicRules,
) -> None:
    class Reversed(BaseConverter):
        def to_python(self, value: str) -> str:
            return value[::-1]

    seen: list[object] = []
    converters = {"reversed": Reversed}
    add(rules, "a/<int:n>/<reversed:s>", lambda n, s: seen.append((n, s)), converters)
    rules.match("a/7/abc").authorize()
    assert seen == [(7, "cba")]
    rules.match("a/x/abc").authorize()
    assert len(seen) == 1


def test_an_authorizer_that_returns_false_refuses_and_one_that_returns_nothing_does_not(
    rules: TopicRules,
) -> None:
    answers: dict[str, t.Any] = {"a": False, "b": None, "c": True}
    add(rules, "x/<name>", lambda name: answers[name])
    with pytest.raises(Forbidden, match="'x/a'"):
        rules.match("x/a").authorize()
    rules.match("x/b").authorize()
    rules.match("x/c").authorize()


def test_a_pattern_that_is_added_later_counts_for_names_that_were_seen(
    rules: TopicRules,
) -> None:
    assert rules.match("news").options.history == 0
    add(rules, "news", history=3)
    assert rules.match("news").options.history == 3


def test_the_names_that_are_remembered_are_bounded(rules: TopicRules) -> None:
    add(rules, "x/<name>")
    variables = rules.match("x/0").variables
    assert rules.match("x/0").variables is variables
    for number in range(1, CACHE_SIZE + 1):
        rules.match(f"x/{number}")
    assert rules.match("x/0").variables is not variables


def test_special_characters_of_urls_mean_nothing_in_names(rules: TopicRules) -> None:
    add(rules, "x/<name>", history=1)
    for name in ("a%2Fb", "a?b=c", "a#b", "ä ö", "a|b", "."):
        assert rules.match(f"x/{name}").variables == {"name": name}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("/room/<x>", "Call it 'room/<x>'"), ("", "empty"), ("a\n", "control characters")],
)
def test_a_pattern_that_can_not_match_is_refused(
    rules: TopicRules, pattern: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        add(rules, pattern)


def test_a_pattern_is_declared_once(rules: TopicRules) -> None:
    add(rules, "a/<x>")
    with pytest.raises(ValueError, match="'a/<x>' is declared already"):
        add(rules, "a/<x>", history=1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"history": -1}, ValueError, "'history' can't be negative"),
        ({"history": "5"}, TypeError, "'history' is a whole number, not '5'"),
        ({"history": True}, TypeError, "'history' is a whole number"),
        ({"ttl": 0}, ValueError, "'ttl' is a number of seconds greater than 0"),
        ({"ttl": math.inf}, ValueError, "'ttl' is a number of seconds"),
        ({"ttl": math.nan}, ValueError, "'ttl' is a number of seconds"),
        ({"ttl": None}, TypeError, "'ttl' is a number of seconds"),
        ({"overflow": "wait"}, ValueError, "'close', 'drop' or 'latest', not 'wait'"),
    ],
)
def test_options_that_can_not_be_are_named(
    options: dict[str, t.Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        TopicOptions(**options)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "can't be empty"),
        ("a\x00", "control characters"),
        ("a\x7f", "control characters"),
        ("a\x85", "control characters"),
        ("a" * 256, "256 bytes, and at most 255"),
        ("ä" * 128, "256 bytes, and at most 255"),
        ("\ud800", "half of a surrogate pair"),
    ],
)
def test_a_bad_name_is_a_value_error(
    rules: TopicRules, name: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        rules.match(name)


@pytest.mark.parametrize("name", [None, 7, b"room", ["room"]])
def test_a_name_of_another_type_is_a_type_error(rules: TopicRules, name: t.Any) -> None:
    with pytest.raises(TypeError, match="The name of a topic is a 'str', not"):
        rules.match(name)


def test_the_longest_name_is_a_name() -> None:
    assert check_name("ä" * 127 + "a") == "ä" * 127 + "a"
