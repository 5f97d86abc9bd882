"""BOLT: made-up conversations in the corpus's XML; nothing of the corpus is here."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasets_builders import BuilderError, DataError, open_builder
from datasets_builders.bolt import Bolt
from datasets_builders.publish import push

RECORD = {"checksums": "record"}
HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE conversation SYSTEM "conversation0.2.1.dtd">\n'


def write(upstream: Path, number: int, messages, donated: str = "false") -> None:
    """Write a conversation of (participant, escaped body) messages; attribute order varies as upstream's does."""
    name = f"SMS_ENG_20120131.{number:04}"
    lines = []
    for at, (participant, body) in enumerate(messages):
        when = f'time="2012-01-31 10:00:{at:02} UTC"'
        if number % 2:
            lines.append(f'<message id="m{at:04}" {when} participant="{participant}"><body>{body}</body></message>')
        else:
            lines.append(f'<message participant="{participant}" {when} id="m{at:04}"><body>{body}</body></message>')
    root = (
        f'<conversation id="{name}" medium="SMS" donated="{donated}">'
        if number % 2
        else f'<conversation donated="{donated}" medium="SMS" id="{name}">'
    )
    path = upstream / "data" / f"{name}.conv.xml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{HEAD}{root}<messages>{''.join(lines)}</messages></conversation>\n", "utf-8")


def built(upstream, cache, **options):
    builder = open_builder("bolt", data_dir=upstream, cache_dir=cache, options=RECORD | options)
    rows = {row["id"]: row | {"split": split} for split, found in builder.load().items() for row in found}
    return rows, builder.tallies()


def test_a_conversation_is_one_prompt(upstream, cache) -> None:
    body = [("7001", "lunch?\nor dinner"), ("9", "&lt;media omitted&gt;"), ("9", "sure &amp; ####"), ("7001", " ok ")]
    write(upstream, 1, body)
    rows, _ = built(upstream, cache)
    [row] = rows.values()
    assert row["prompt"] == [
        {
            "role": "user",
            "content": "CONVERSATION:\nA: lunch?\nor dinner\nB: sure & ####\nA: ok\n\nTL;DR:",
            "name": None,
            "tool_calls": None,
        }
    ]
    assert row["message_count"] == 3
    assert row["id"] == "SMS_ENG_20120131.0001"
    assert row["source_file"] == "data/SMS_ENG_20120131.0001.conv.xml"


def test_double_escapes_are_undone_once_and_counted(upstream, cache) -> None:
    write(upstream, 1, [("1", "a &amp;amp; b &amp;lt;3 &amp;amp;lt;")])
    write(upstream, 2, [("1", "a &lt;3 plain \ue415")])
    rows, tallies = built(upstream, cache)
    assert "A: a & b <3 &lt;\n" in rows["SMS_ENG_20120131.0001"]["prompt"][0]["content"]
    assert "A: a <3 plain \ue415\n" in rows["SMS_ENG_20120131.0002"]["prompt"][0]["content"]
    assert sum(tally.notes.total() for tally in tallies.values()) == 1


def test_donated_conversations_that_share_a_participant_are_one_group(upstream, cache) -> None:
    write(upstream, 1, [("1", "x"), ("2", "y")], donated="true")
    write(upstream, 2, [("2", "x"), ("3", "y")], donated="true")
    write(upstream, 3, [("3", "x")], donated="true")
    write(upstream, 4, [("4", "x")], donated="true")
    write(upstream, 5, [("1", "x")], donated="false")
    rows, _ = built(upstream, cache)
    groups = [rows[f"SMS_ENG_20120131.{number:04}"]["group"] for number in range(1, 6)]
    assert groups[0] == groups[1] == groups[2]
    assert len(set(groups)) == 3


def test_splits_follow_groups(upstream, cache) -> None:
    for number in range(1, 41):
        write(upstream, number, [(str(number // 2), "x")], donated="true")
    rows, _ = built(upstream, cache)
    assert len({(row["group"], row["split"]) for row in rows.values()}) == len({row["group"] for row in rows.values()})
    assert len({row["split"] for row in rows.values()}) > 1


def test_conversations_without_text_are_dropped_and_counted(upstream, cache) -> None:
    write(upstream, 1, [("1", "&lt;media omitted&gt;"), ("2", "  ")])
    write(upstream, 2, [("1", "x"), ("2", "y")])
    rows, tallies = built(upstream, cache)
    assert len(rows) == 1
    assert sum(tally.dropped.total() for tally in tallies.values()) == 1
    rows, tallies = built(upstream, cache, min_messages=3)
    assert rows == {}
    assert sum(tally.dropped["fewer than 3 messages of text"] for tally in tallies.values()) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<conversation", "is not XML"),
        ("<conversation id='x'><messages/></conversation>", "is not a conversation"),
        ("<chat id='x' donated='true'/>", "is not a conversation"),
        (
            "<conversation id='x' donated='true'><messages><message><body>a</body></message></messages></conversation>",
            "row 0: a message without participant or body",
        ),
        ('<!DOCTYPE c [<!ENTITY a "aaaa">]><conversation id="x" donated="true"/>', "declares entities"),
    ],
)
def test_a_file_of_another_form_is_refused(content, message, upstream, cache) -> None:
    write(upstream, 1, [("1", "x")])
    (upstream / "data" / "SMS_ENG_20120131.0002.conv.xml").write_text(content)
    with pytest.raises(DataError, match=message):
        built(upstream, cache)


def test_the_corpus_must_be_given(cache, upstream) -> None:
    with pytest.raises(BuilderError, match="bolt cannot be downloaded; give data_dir; obtain LDC2018T19"):
        open_builder("bolt", cache_dir=cache)
    with pytest.raises(BuilderError, match=r"has no \*\.conv\.xml; obtain LDC2018T19"):
        open_builder("bolt", data_dir=upstream, cache_dir=cache)
    with pytest.raises(BuilderError, match="no such folder"):
        open_builder("bolt", data_dir=upstream / "nowhere", cache_dir=cache)


@pytest.mark.parametrize("private", [True, False])
def test_it_is_never_pushed(private, upstream) -> None:
    with pytest.raises(BuilderError, match="bolt may not be uploaded anywhere: LDC User Agreement"):
        push(upstream, "me/bolt", Bolt.ORIGIN, private=private)
