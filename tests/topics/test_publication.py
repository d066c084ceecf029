"""Messages, positions and envelopes, as bytes."""

from __future__ import annotations

import json
import typing as t

import pytest

from flask_sockets.topics.publication import Kind, Position, Publication, read_message


@pytest.mark.parametrize(
    ("message", "kind", "payload"),
    [
        ("ä", Kind.TEXT, b"\xc3\xa4"),
        ("", Kind.TEXT, b""),
        (b"\xff", Kind.BINARY, b"\xff"),
        (bytearray(b"x"), Kind.BINARY, b"x"),
        (memoryview(b"x"), Kind.BINARY, b"x"),
    ],
)
def test_text_is_text_and_bytes_are_binary(
    message: t.Any, kind: Kind, payload: bytes
) -> None:
    assert read_message(message) == (kind, payload)
    publication = Publication("t", kind, payload)
    assert publication.message == (
        message if isinstance(message, str) else bytes(message)
    )
    assert publication.encode()[0] == (0x82 if kind is Kind.BINARY else 0x81)


@pytest.mark.parametrize("message", [None, 7, {"a": 1}, ["x"]])
def test_other_values_are_sent_as_json_only(message: t.Any) -> None:
    with pytest.raises(TypeError, match=r"Use 'publish_json\(\)'"):
        read_message(message)


def test_half_of_a_surrogate_pair_can_not_be_published() -> None:
    with pytest.raises(ValueError, match="surrogates not allowed"):
        read_message("\ud83d")


@pytest.mark.parametrize("text", ["a-0", "a-1", f"{'f' * 40}-{10**18}"])
def test_a_position_is_read_as_it_was_written(text: str) -> None:
    position = Position.parse(text)
    assert position is not None
    assert str(position) == text


@pytest.mark.parametrize(
    "text",
    [
        *(None, 7, b"a-1", ["a-1"], "", "a", "a-", "-1", "a--1", "a-01", "a-1\n"),
        *("a-\u0661", "ä-1", "a b-1", "a-1.5", "a-1e3", f"a-{10**19}"),
        f"{'f' * 41}-1",
    ],
)
def test_what_clients_make_up_is_no_position(text: object) -> None:
    assert Position.parse(text) is None


@pytest.mark.parametrize(
    ("publication", "data"),
    [
        (Publication("t", Kind.TEXT, b'say "hi"'), 'say "hi"'),
        (Publication("t", Kind.JSON, b'{"a": [1, null]}'), {"a": [1, None]}),
        (Publication("t", Kind.JSON, "ä".encode().join([b'"', b'"'])), "ä"),
    ],
)
def test_an_envelope_holds_topic_position_and_data(
    publication: Publication, data: object
) -> None:
    envelope = json.loads(publication.encode_envelope()[2:])
    assert envelope == {"topic": "t", "position": None, "data": data}


def test_the_envelope_of_binary_data_says_how_it_is_encoded() -> None:
    publication = Publication("ü", Kind.BINARY, b"\xff\x00", "", Position("e", 3))
    frame = publication.encode_envelope()
    assert frame[0] == 0x81
    assert json.loads(frame[2:]) == {
        "topic": "ü",
        "position": "e-3",
        "encoding": "base64",
        "data": "/wA=",
    }
