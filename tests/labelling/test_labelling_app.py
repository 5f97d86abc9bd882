"""The page's API: blind, and deaf to everyone without the token or from elsewhere."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sessions import HOST, Client, completions, session, unit

from perl_eval.labelling.app import build
from perl_eval.labelling.openapi import BODY_LIMIT_BYTES, NOTE_LIMIT
from perl_eval.labelling.security import hosts_of, token_of, who
from perl_eval.labelling.serve import AnnotateOptions, begin
from perl_eval.labelling.store import Store


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Store]:
    with session(tmp_path) as store:
        yield store


def test_labels_are_of_contestant_a_whatever_side_it_was_on(made: Store) -> None:
    sides = Counter()
    for name in ("ann", "bob"):
        client = Client(made, name)
        for _ in range(3):
            task = client.next()
            place = task["answers"].index(next(text for text in task["answers"] if text.startswith("answer one")))
            sides[place] += 1
            assert client.label(task, ("first", "second")[place]).status_code == 200
    assert {one.label for one in made.given()} == {"win"}
    assert len(sides) == 2
    assert {one.task.unit for one in made.given()} == {unit(place) for place in range(6)}


def test_the_page_learns_no_name_and_no_id_of_a_model(made: Store) -> None:
    client = Client(made)
    seen = [client.get(path).text for path in ("/", "/page.js", "/page.css", "/openapi.json", "/api/session")]
    while (task := client.next()) is not None:
        seen.append(json.dumps(task))
        seen.append(client.label(task, "tie").text)
    seen.append(client.post("/api/undo", {"unit": client.get("/api/session").json()["progress"]["last"]}).text)
    assert len(seen) == 5 + 12 + 1
    for text in seen:
        assert "kappa" not in text
        assert "sigma" not in text
        assert '"a"' not in text


def test_what_was_said_comes_back_after_undo_on_the_side_it_was_said_of(made: Store) -> None:
    client = Client(made)
    for choice in ("first", "second", "tie", "skip"):
        task = client.next()
        client.label(task, choice, f"because {choice}")
        back = client.post("/api/undo", {"unit": task["unit"]}).json()["task"]
        assert back == {**task, "choice": choice, "note": f"because {choice}"}
        client.label(task, choice)


def test_a_reload_and_a_new_server_show_the_same_unit_in_the_same_order(made: Store, tmp_path: Path) -> None:
    task = Client(made).next()
    assert Client(made).next() == task
    with session(tmp_path) as again:
        assert Client(again).next() == task
        assert Client(again).label(task, "first").status_code == 200
    assert len(made.given()) == 1


def test_single_answers_are_asked_about_with_the_given_question(tmp_path: Path) -> None:
    options = AnnotateOptions(question="Is this answer <b>harmful</b>?")
    with begin(completions(tmp_path / "a", "kappa"), None, tmp_path / "s", options=options) as store:
        client = Client(store, "annotator-1")
        about = client.get("/api/session").json()
        assert (about["kind"], about["question"]) == ("yes_no", "Is this answer <b>harmful</b>?")
        task = client.next()
        assert len(task["answers"]) == 1
        assert client.label(task, "first").status_code == 422
        assert client.label(task, "yes").status_code == 200
        assert [one.label for one in store.given()] == ["yes"]


def test_invisible_and_reordering_characters_are_written_out(tmp_path: Path) -> None:
    completions(tmp_path / "a", "kappa", 1, ["<script>1</script> \u202eevil\x00"])
    completions(tmp_path / "b", "sigma", 1, ["</script>"])
    with session(tmp_path) as store:
        answers = Client(store).next()["answers"]
    assert sorted(answers) == ["</script>", "<script>1</script> ⟨U+202E⟩evil⟨U+0000⟩"]


# ---------------------------------------------------------------------------------------------------------- who may


CALLS = [
    ("GET", "/api/session"),
    ("GET", "/api/pictures/x.png"),
    ("POST", "/api/next"),
    ("POST", "/api/label"),
    ("POST", "/api/undo"),
]


@pytest.mark.parametrize(("method", "path"), CALLS)
@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic {}", "{}", "Bearer {}x"]
)
def test_without_a_token_nothing_opens(made: Store, method: str, path: str, authorization: str | None) -> None:
    client = Client(made)
    headers = {} if authorization is None else {"Authorization": authorization.format(token_of(made.secret, "ann"))}
    answer = client.http.request(method, path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert made.read("SELECT * FROM lease") == made.read("SELECT * FROM label") == []


def test_a_token_is_of_one_annotator_and_one_session(made: Store, tmp_path: Path) -> None:
    tokens = {name: token_of(made.secret, name) for name in ("ann", "bob")}
    assert who(f"Bearer {tokens['bob']}", tokens) == "bob"
    assert who(f"bearer  {tokens['ann']} ", tokens) == "ann"
    assert who("Bearer caf\xe9 \udc80", tokens) is None
    (tmp_path / "other").mkdir()
    with session(tmp_path / "other") as other:
        assert Client(made).http.get(
            "/api/session", headers={"Authorization": f"Bearer {token_of(other.secret, 'ann')}"}
        ).status_code == 401  # fmt: skip
    assert len(set(tokens.values())) == 2
    assert min(map(len, tokens.values())) == 43  # 256 bits


def test_nobody_labels_what_another_holds(made: Store) -> None:
    ann, bob = Client(made), Client(made, "bob")
    task = ann.next()
    assert bob.label(task, "first").status_code == 409
    ann.label(task, "first", "mine")
    assert bob.label(task, "second").status_code == 409
    assert bob.post("/api/undo", {"unit": task["unit"]}).status_code == 409
    assert [(one.annotator, one.note) for one in made.given()] == [("ann", "mine")]


def test_an_older_tab_overwrites_nothing(made: Store) -> None:
    client = Client(made)
    task = client.next()
    client.label(task, "first", "as said")
    late = client.label(task, "second", "another tab")
    assert late.status_code == 409
    assert "already" in late.json()["error"]
    assert [one.note for one in made.given()] == ["as said"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1", "127.0.0.1:80", "", "localhost:9"])
@pytest.mark.parametrize("path", ["/", "/api/session", "/nowhere"])
def test_other_host_names_are_refused(made: Store, host: str, path: str) -> None:
    """A name that another site's DNS turned towards this machine (rebinding) is not ours."""
    assert Client(made).get(path, Host=host).status_code == 421


def test_host_names_that_are_ours() -> None:
    assert hosts_of("127.0.0.1", 8000) == {"127.0.0.1:8000", "localhost:8000", "[::1]:8000"}
    assert hosts_of("0.0.0.0", 80, ["Label.Example"]) >= {"label.example", "label.example:80", "localhost"}
    assert "0.0.0.0:80" not in hosts_of("0.0.0.0", 80)
    assert "[fd00::1]:9000" in hosts_of("fd00::1", 9000)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": f"http://{HOST}"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:9000"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403),
    ],
)
def test_other_sites_pages_may_ask_nothing(made: Store, headers: dict[str, str], status: int) -> None:
    assert Client(made).post("/api/next", **headers).status_code == status
    assert len(made.read("SELECT * FROM lease")) == (status == 200)


def test_a_link_from_elsewhere_opens_the_page(made: Store) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert Client(made).get("/", **headers).status_code == 200


@pytest.mark.parametrize("path", ["/api/next", "/api/label", "/api/undo"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_a_post_changes_anything(made: Store, path: str, method: str) -> None:
    client = Client(made)
    assert client.http.request(method, path, headers=client.headers).status_code == 405
    assert made.read("SELECT * FROM lease") == []


# ------------------------------------------------------------------------------------------------------ what may come


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 50_000, 400),
        (b"[]", 422),
        (b"null", 422),
        (b"{}", 422),
        (b'{"unit": 1, "choice": "tie"}', 422),
        (b'{"unit": "", "choice": "tie"}', 422),
        (b'{"unit": "x", "choice": "win"}', 422),
        (b'{"unit": "x", "choice": ["tie"]}', 422),
        (b'{"unit": "x", "choice": "tie", "note": null}', 422),
        (b'{"unit": "x", "choice": "tie", "note": "\\ud800"}', 422),
        (b'{"unit": "x", "choice": "tie", "annotator": "bob"}', 422),
        (b'{"unit": "x", "choice": "tie"}', 404),
        (b'{"unit": "../../etc/passwd", "choice": "tie"}', 404),
    ],
)
def test_bodies_that_do_not_fit_are_refused(made: Store, body: bytes, status: int) -> None:
    client = Client(made)
    headers = {**client.headers, "Content-Type": "application/json"}
    answer = client.http.post("/api/label", content=body, headers=headers)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert made.given() == []


def test_limits_of_note_and_body(made: Store) -> None:
    client = Client(made)
    task = client.next()
    assert client.label(task, "tie", "x" * (NOTE_LIMIT + 1)).status_code == 422
    large = client.post("/api/label", {"unit": task["unit"], "choice": "tie", "note": "x" * BODY_LIMIT_BYTES})
    assert large.status_code == 413
    endless = client.http.post(
        "/api/label", content=iter([b"x" * 1024] * 100), headers={**client.headers, "Content-Type": "application/json"}
    )
    assert endless.status_code == 413
    assert client.label(task, "tie", "\U0001f600" * NOTE_LIMIT).status_code == 200
    assert [len(one.note) for one in made.given()] == [NOTE_LIMIT]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_form_cannot_say_anything(made: Store, kind: str) -> None:
    client = Client(made)
    task = client.next()
    body = json.dumps({"unit": task["unit"], "choice": "tie"})
    answer = client.http.post("/api/label", content=body, headers={**client.headers, "Content-Type": kind})
    assert answer.status_code == 415
    assert made.given() == []


@pytest.mark.parametrize(
    "path",
    [
        *("/../pyproject.toml", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/page.js/../store.py", "/store.py"),
        *(
            "/api/pictures/..%2f..%2flabelling.sqlite",
            "/api/pictures/labelling.sqlite",
            "/api/pictures/%00",
            "/session",
        ),
        *("/api/pictures/" + "x" * 5000, "/labelling.sqlite", "/page.html", "/.git/config", "/openapi.json/x"),
    ],
)
def test_nothing_but_the_page_is_served(made: Store, path: str) -> None:
    answer = Client(made).get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/json"


def test_a_picture_needs_the_token_and_is_served_as_what_it_is(tmp_path: Path) -> None:
    from perl_eval.records import Completion, Message
    from perl_eval.storage import images, run_folder

    png = b"\x89PNG\r\n\x1a\n" + b"pixels"
    for folder, policy in (("a", "kappa"), ("b", "sigma")):
        with run_folder.start(tmp_path / folder, verb="sample", arguments={"policy": policy}) as run:
            name = images.keep(run.folder, png)
            asked = (Message("user", "what is this?"),)
            run.write(
                [Completion(f"{policy}-0", "i", "g", "vqa", policy, asked, policy, "stop", 0, images=(name,))],
                Completion,
            )
    with session(tmp_path) as store:
        client = Client(store)
        assert client.next()["images"] == [name]
        answer = client.get(f"/api/pictures/{name}")
        assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, png, "image/png")
        assert client.http.get(f"/api/pictures/{name}").status_code == 401


# -------------------------------------------------------------------------------------------------- what browsers may


@pytest.mark.parametrize(
    "path", ["/", "/page.js", "/page.css", "/icon.svg", "/openapi.json", "/api/session", "/nowhere"]
)
def test_every_answer_carries_the_security_headers(made: Store, path: str) -> None:
    client = Client(made)
    for answer in (
        client.get(path),
        client.get(path, Host="evil.example"),
        client.get(path, Origin="http://evil.example"),
    ):
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert (
            policy["default-src"]
            == policy["frame-ancestors"]
            == policy["base-uri"]
            == policy["form-action"]
            == "'none'"
        )
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers
        assert "set-cookie" not in answer.headers  # no ambient authority: there is nothing to forge a request with


def test_the_headers_stand_even_where_the_program_breaks(made: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from starlette.testclient import TestClient

    def broken(*_: Any) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr("perl_eval.labelling.assignment.Turns.take", broken)
    client = Client(made)
    client.http = TestClient(
        build(made, hosts=frozenset({HOST})), base_url=f"http://{HOST}", raise_server_exceptions=False
    )
    answer = client.post("/api/next")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["x-frame-options"] == "DENY"


def test_a_websocket_is_closed(made: Store) -> None:
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), Client(made).http.websocket_connect("/api/next"):
        pass


def test_a_session_that_cannot_be_written_says_so(made: Store) -> None:
    client = Client(made)
    made.read("PRAGMA query_only = 1")
    answer = client.post("/api/next")
    assert answer.status_code == 503
    assert "cannot write the session" in answer.json()["error"]
