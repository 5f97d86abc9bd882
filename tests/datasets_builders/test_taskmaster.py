"""Taskmaster: turns, groups, pairs and dialogs; and the counts of the real files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from datasets_builders import BuilderError, DataError, open_builder
from datasets_builders.checks import examine
from datasets_builders.publish import write_config

RECORD = {"checksums": "record"}
HELLO = {"role": "agent", "text": "Welcome"}
ASK = {"role": "user", "text": "an espresso"}
CALL = {"role": "agent", "api": {"get_menu": {"query": "espresso", "sizes": ["S", {"ml": 30}]}}}
REPLY = {"role": "api", "response": {"get_menu": {"items": [{"name": "Espresso ☕"}]}}}
DONE = {"role": "agent", "text": "Coming up"}


def rows_of(name, config, upstream, cache, **options):
    builder = open_builder(name, config, data_dir=upstream, cache_dir=cache, options=RECORD | options)
    built = builder.load()
    return {row["id"]: row | {"split": split} for split, rows in built.items() for row in rows}, builder.tallies()


def test_turns_become_messages(upstream, cache, coffee, rated_turn) -> None:
    coffee([rated_turn("a", [HELLO, ASK, CALL, REPLY], DONE, 1.0), rated_turn("b", [HELLO, ASK], CALL, 0.0)])
    rows, _ = rows_of("taskmaster_coffee", "ratings", upstream, cache)
    hello, ask, call, reply = rows["a"]["prompt"]
    plain = {"name": None, "tool_calls": None}
    assert hello == {"role": "assistant", "content": "Welcome"} | plain
    assert ask == {"role": "user", "content": "an espresso"} | plain
    function = {"name": "get_menu", "arguments": {"query": "espresso", "sizes": ["S", {"ml": 30}]}}
    assert call == {
        **{"role": "assistant", "content": "", "name": None},
        "tool_calls": [{"type": "function", "function": function}],
    }
    assert reply["role"] == "tool"
    assert reply["name"] == "get_menu"
    assert json.loads(reply["content"]) == {"items": [{"name": "Espresso ☕"}]}
    assert rows["a"]["completion"] == [{"role": "assistant", "content": "Coming up"} | plain]
    assert (rows["a"]["label"], rows["b"]["label"]) == (True, False)
    assert rows["b"]["completion"] == [call]
    assert rows["a"]["source_file"] == "TM-4-2024/reward/reward_00.json"
    assert rows["a"]["dataset"] == "taskmaster_coffee"


def test_calls_are_text_where_that_is_asked_for(upstream, cache, coffee, rated_turn) -> None:
    context = [HELLO, CALL, REPLY]
    coffee([rated_turn("up", context, DONE, 1.0), rated_turn("down", context, CALL, 0.0)])
    for config, column in (("ratings", "completion"), ("pairs", "rejected")):
        plain, _ = rows_of("taskmaster_coffee", config, upstream, cache)
        texts, _ = rows_of("taskmaster_coffee", config, upstream, cache, format_calls="text")
        name = "down" if config == "ratings" else "up:down"
        said, written = (one[name]["prompt"] + one[name][column] for one in (plain, texts))
        for before, after in zip(said, written, strict=True):
            assert after["tool_calls"] is None
            if before["tool_calls"]:
                (call,) = before["tool_calls"]
                assert json.loads(after["content"]) == call["function"]
            else:
                assert after == before
        assert any(turn["tool_calls"] for turn in plain[name][column])
    with pytest.raises(BuilderError, match="format_calls='xml' is not known; choose 'tool_calls' or 'text'"):
        rows_of("taskmaster_coffee", "ratings", upstream, cache, format_calls="xml")


def test_turns_of_one_conversation_are_one_group_and_one_split(upstream, cache, coffee, rated_turn) -> None:
    conversations = [[{"role": "user", "text": f"wish {number}"}] for number in range(60)]
    rows = []
    for number, start in enumerate(conversations):
        for length, context in enumerate(([HELLO, *start], [HELLO, *start, CALL, REPLY], [HELLO, *start, DONE, ASK])):
            rows.append(rated_turn(f"{number}-{length}", context, DONE, 1.0))
    coffee(rows)
    found, _ = rows_of("taskmaster_coffee", "ratings", upstream, cache)
    for number in range(60):
        of_one = [found[f"{number}-{length}"] for length in range(3)]
        assert len({row["group"] for row in of_one}) == 1
        assert len({row["split"] for row in of_one}) == 1
    assert len({row["group"] for row in found.values()}) == 60
    assert {row["split"] for row in found.values()} == {"train", "validation", "test"}


def test_a_context_written_in_another_way_is_the_same_context(upstream, cache, coffee, rated_turn) -> None:
    up, down = rated_turn("up", [HELLO, ASK], DONE, 1.0), rated_turn("down", [HELLO, ASK], CALL, 0.0)
    down["context"] = json.dumps([dict(reversed(turn.items())) for turn in (HELLO, ASK)], indent=1)
    coffee([up, down])
    rows, _ = rows_of("taskmaster_coffee", "pairs", upstream, cache)
    assert list(rows) == ["up:down"]


def test_pairs_are_each_better_turn_with_each_worse_one(upstream, cache, coffee, rated_turn) -> None:
    def says(text):
        return {"role": "agent", "text": text}

    ratings = [("u1", "a", 1.0), ("u2", "b", 1.0), ("u1again", "a", 1.0), ("d1", "c", 0.0), ("d2", "d", 0.0)]
    ratings += [("up", "both", 1.0), ("down", "both", 0.0)]
    coffee([rated_turn(id_, [HELLO, ASK], says(text), reward) for id_, text, reward in ratings])
    rows, tallies = rows_of("taskmaster_coffee", "pairs", upstream, cache)
    # Two better answers and two worse ones; the repeated answer counts once, the contradictory one not at all.
    assert set(rows) == {"u1:d1", "u1:d2", "u2:d1", "u2:d2"}
    assert rows["u2:d1"]["chosen"][0]["content"] == "b"
    assert rows["u2:d1"]["rejected"][0]["content"] == "c"
    assert sum((tally.notes for tally in tallies.values()), Counter()) == {"rated both up and down, so in no pair": 1}


def test_pairs_of_one_context_have_the_group_and_split_of_its_ratings(upstream, cache, coffee, rated_turn) -> None:
    """Ids are of rows, so folds by them would have one context, or a conversation's next turn, on both sides."""
    rows = []
    for number in range(20):
        first = [HELLO, {"role": "user", "text": f"wish {number}"}]
        for length, context in enumerate((first, [*first, CALL, REPLY])):
            for name, answer, reward in (("up", DONE, 1.0), ("down", ASK, 0.0), ("low", HELLO, 0.0)):
                rows.append(rated_turn(f"{number}-{length}-{name}", context, answer, reward))
    coffee(rows)
    ratings, _ = rows_of("taskmaster_coffee", "ratings", upstream, cache)
    pairs, _ = rows_of("taskmaster_coffee", "pairs", upstream, cache)
    assert len(pairs) == 20 * 2 * 2
    for name, pair in pairs.items():
        for rated in name.split(":"):
            assert (pair["group"], pair["split"]) == (ratings[rated]["group"], ratings[rated]["split"])
    assert len({row["group"] for row in pairs.values()}) == 20


def test_an_empty_context_becomes_one_empty_user_turn(upstream, cache, coffee, rated_turn) -> None:
    coffee([rated_turn("a", [], DONE, 1.0)])
    rows, tallies = rows_of("taskmaster_coffee", "ratings", upstream, cache)
    assert [(turn["role"], turn["content"]) for turn in rows["a"]["prompt"]] == [("user", "")]
    assert sum(tally.notes.total() for tally in tallies.values()) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reward": 0.5}, "row 1, field 'reward': 0.5 is neither 0.0 nor 1.0"),
        ({"context": "[{]"}, "row 1, field 'context': is not JSON"),
        ({"context": "{}"}, "row 1, field 'context': is not a list of turns"),
        ({"context": '[{"role": "agent"}]'}, "row 1, field 'context': unknown kind of turn"),
        ({"context": '["hi"]'}, "row 1, field 'context': unknown kind of turn"),
        ({"context": '[{"role": "user", "text": "x", "mood": 1}]'}, "unexpected key 'mood' in a turn"),
        (
            {"generation": '{"role": "agent", "api": {"f": "x"}}'},
            "field 'generation': arguments of 'f' are not an object",
        ),
        ({"generation": '{"role": "agent", "api": {"f": {}, "g": {}}}'}, "field 'generation': unknown kind of turn"),
        ({"rater": "x"}, "row 1: unexpected key 'rater'"),
    ],
)
def test_what_is_not_as_upstream_wrote_it_is_refused(change, message, upstream, cache, coffee, rated_turn) -> None:
    coffee([rated_turn("a", [HELLO], DONE, 1.0), rated_turn("b", [HELLO], DONE, 1.0) | change])
    with pytest.raises(DataError, match=message):
        rows_of("taskmaster_coffee", "ratings", upstream, cache)


def annotation(name: str, value: str, number: int) -> dict[str, str]:
    kind = "api_call" if name in ("api_call", "request") else "api_response"
    return {"name": name, "value": value, "context": f"{kind}_{number}"}


def utterance(index: int, speaker: str, text: str, *calls: tuple[str, str | None, str]) -> dict[str, object]:
    annotations = []
    for number, (name, request, response) in enumerate(calls):
        annotations += [annotation("api_call", name, number)]
        annotations += [] if request is None else [annotation("request", request, number)]
        annotations += [annotation("api_response", name, number), annotation("response", response, number)]
    return {"index": index, "speaker": speaker, "text": text, "segments": [], "annotations": annotations}


def write_dialogs(write_array, dialogs) -> None:
    for number in range(8):
        rows = [
            {"conversation_id": id_, "vertical": "Coffee", "scenario": "s", "instructions": None, "utterances": turns}
            for id_, turns in dialogs
        ]
        write_array(f"TM-4-2024/data/data_{number:02}.json", rows if number == 0 else [])


def test_a_dialog_is_one_demonstration(upstream, cache, write_array) -> None:
    first = utterance(
        *(0, "user", "a latte", ("get_menu", '{"query": "latte"}', '{"id": 7}')),
        ("show_menu", None, '{"success":true}'),
    )
    write_dialogs(write_array, [("d1", [first, utterance(1, "assistant", "Here"), utterance(2, "user", "thanks")])])
    rows, _ = rows_of("taskmaster_coffee", "dialogs", upstream, cache)
    row = rows["d1"]
    assert [(turn["role"], turn["content"]) for turn in row["prompt"]] == [("user", "a latte")]
    shown = [(turn["role"], turn["content"] or turn["tool_calls"][0]["function"]) for turn in row["completion"]]
    assert shown == [
        ("assistant", {"name": "get_menu", "arguments": {"query": "latte"}}),
        ("tool", '{"id": 7}'),
        ("assistant", {"name": "show_menu", "arguments": {}}),
        ("tool", '{"success": true}'),
        ("assistant", "Here"),
        ("user", "thanks"),
    ]
    assert row["scenario"] == "s"


def test_doubled_quotes_in_calls_are_mended_and_counted(upstream, cache, write_array) -> None:
    call = ("add", '{"item": ""latte-4968"", "note": ""}', '{"name": ""Jack of hearts"", "tab": "a\tb"}')
    write_dialogs(write_array, [("d1", [utterance(0, "user", "a latte", call)])])
    rows, tallies = rows_of("taskmaster_coffee", "dialogs", upstream, cache)
    call_turn, response = rows["d1"]["completion"]
    assert call_turn["tool_calls"][0]["function"]["arguments"] == {"item": "latte-4968", "note": ""}
    assert json.loads(response["content"]) == {"name": "Jack of hearts", "tab": "a\tb"}
    notes = sum((tally.notes for tally in tallies.values()), Counter())
    assert notes == {"doubled quotes in an API call mended": 2}


def test_a_dialog_without_assistant_is_dropped_and_counted(upstream, cache, write_array) -> None:
    write_dialogs(write_array, [("d1", [utterance(0, "user", "hello?")])])
    rows, tallies = rows_of("taskmaster_coffee", "dialogs", upstream, cache)
    assert rows == {}
    assert sum((tally.dropped for tally in tallies.values()), Counter()) == {"no assistant turn": 1}


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        (utterance(0, "waiter", "x"), "row 0, field 'utterances': unknown speaker 'waiter'"),
        (utterance(0, "user", "x") | {"apis": []}, "row 0, field 'utterances': unexpected key 'apis'"),
        (utterance(0, "user", "x", ("f", "[1]", "{}")), "arguments of 'f' are not an object"),
        (utterance(0, "user", "x", ("f", "not json", "{}")), "field 'annotations': is not JSON"),
        (
            utterance(0, "user", "x") | {"annotations": [annotation("request", "{}", 0)]},
            "field 'annotations': 'request' belongs to no call",
        ),
        (
            utterance(0, "user", "x") | {"annotations": [annotation("api_call", "f", 0)]},
            "key 'api_response' is missing",
        ),
    ],
)
def test_a_dialog_of_another_form_is_refused(turn, message, upstream, cache, write_array) -> None:
    write_dialogs(write_array, [("d1", [turn])])
    with pytest.raises(DataError, match=message):
        rows_of("taskmaster_coffee", "dialogs", upstream, cache)


def write_ticket_dialogs(write_array, *utterances) -> None:
    one = {"conversation_id": "dlg-1", "vertical": "Movie Tickets", "scenario": "s", "instructions": "i"}
    for number in range(20):
        rows = [one | {"utterances": list(utterances)}] if number == 0 else []
        write_array(f"TM-3-2020/data/data_{number:02}.json", rows)


def test_a_ticketing_dialog_has_its_calls_in_another_place(upstream, cache, write_array) -> None:
    # As the README of TM-3 has it: `apis` of name, index, args and response; segments and apis may be missing.
    api = {"name": "find_movies", "index": 1, "args": {"name.genre": ["horror"]}, "response": {"name.movie": ["It"]}}
    write_ticket_dialogs(
        write_array,
        {"index": 0, "speaker": "user", "text": "a horror movie", "segments": []},
        {"index": 1, "speaker": "assistant", "text": "one moment", "apis": [api]},
        {"index": 2, "speaker": "assistant", "text": "It is on"},
    )
    rows, _ = rows_of("taskmaster_ticketing", "dialogs", upstream, cache)
    row = rows["dlg-1"]
    assert [(turn["role"], turn["content"]) for turn in row["prompt"]] == [("user", "a horror movie")]
    said, call, reply, last = row["completion"]
    assert (said["content"], last["content"]) == ("one moment", "It is on")
    assert call["tool_calls"][0]["function"] == {"name": "find_movies", "arguments": {"name.genre": ["horror"]}}
    assert (reply["role"], reply["name"], json.loads(reply["content"])) == ("tool", "find_movies", api["response"])


@pytest.mark.parametrize(
    ("noted", "message"),
    [
        ({"annotations": []}, "unexpected key 'annotations'"),
        ({"apis": [{"name": "f"}]}, "field 'apis': key 'args' is missing"),
        ({"apis": [{"name": "f", "args": []}]}, "field 'apis': arguments of 'f' are not an object"),
        ({"apis": [{"name": "f", "args": {}, "cost": 1}]}, "field 'apis': unexpected key 'cost'"),
    ],
)
def test_a_ticketing_dialog_of_another_form_is_refused(noted, message, upstream, cache, write_array) -> None:
    write_ticket_dialogs(write_array, {"index": 0, "speaker": "user", "text": "x"} | noted)
    with pytest.raises(DataError, match=message):
        rows_of("taskmaster_ticketing", "dialogs", upstream, cache)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "config", "rows", "groups"),
    [
        # Counted by others from the same files: rows, and connected components of "context is a prefix of context".
        ("taskmaster_coffee", "ratings", 3228, 886),
        ("taskmaster_coffee", "pairs", 617, None),
        ("taskmaster_coffee", "dialogs", 3710, None),
        ("taskmaster_ticketing", "ratings", 3667, 271),
        ("taskmaster_ticketing", "pairs", 22, None),
    ],
)
def test_the_real_files(name, config, rows, groups, real_data: Path, cache) -> None:
    built = open_builder(name, config, data_dir=real_data / "taskmaster", cache_dir=cache).load()
    assert sum(split.num_rows for split in built.values()) == rows
    of_split = {split: set(found["group"][:]) for split, found in built.items()}
    assert sum(map(len, of_split.values())) == len(set().union(*of_split.values())), "a group is in two splits"
    if groups is not None:
        assert sum(map(len, of_split.values())) == groups
    shares = {split: found.num_rows / rows for split, found in built.items()}
    if rows > 1000:
        assert shares["train"] == pytest.approx(0.8, abs=0.04)
        assert shares["test"] == pytest.approx(0.1, abs=0.04)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "ups", "distinct", "contradictory"),
    [("taskmaster_coffee", 2775, 2997, 0), ("taskmaster_ticketing", 573, 3622, 5)],
)
def test_checks_find_in_the_real_files_what_others_counted(name, ups, distinct, contradictory, real_data, tmp_path):
    builder = open_builder(name, "ratings", data_dir=real_data / "taskmaster", cache_dir=tmp_path / "cache")
    write_config(builder, tmp_path / "out")
    findings = examine(tmp_path / "out" / "ratings")
    assert sum(one.count for one in findings if one.check == "thumbs up") == ups
    assert [(one.count, one.of) for one in findings if one.check == "rated both up and down"] == [
        (contradictory, distinct)
    ]
    for check in ("the same prompt", "a prompt that begins or continues one there", "a group that is there too"):
        assert [one.count for one in findings if one.check == check] == [0, 0, 0]
