"""The API against its own description, with requests that fit it and requests that do not."""

from __future__ import annotations

from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from sessions import HOST, session

from perl_eval.labelling.app import build
from perl_eval.labelling.security import token_of

CALLS = [
    ("/api/session", "GET"),
    ("/api/pictures/{name}", "GET"),
    ("/api/next", "POST"),
    ("/api/label", "POST"),
    ("/api/undo", "POST"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("path", "method"), CALLS)
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_answers_are_as_described_whatever_is_asked(
    tmp_path: Path, path: str, method: str, mode: GenerationMode
) -> None:
    """No crash, no status, type or field that the description lacks, nothing accepted that it forbids."""
    with session(tmp_path, 40) as store:
        app = build(store, hosts=frozenset({HOST}))
        described = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Host": HOST})
        paths = described.raw_schema["paths"].items()
        assert {(at, how.upper()) for at, calls in paths for how in calls if how != "parameters"} == set(CALLS)
        headers = {"Host": HOST, "Authorization": f"Bearer {token_of(store.secret, 'ann')}"}
        units = [task.unit for task in store.tasks()]

        @settings(
            max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(case=described[path][method].as_strategy(generation_mode=mode), unit=st.sampled_from([*units, None]))
        def ask(case: schemathesis.Case, unit: str | None) -> None:
            if unit is not None and mode.is_positive and isinstance(case.body, dict):
                case.body["unit"] = unit  # else hardly any request would be about a unit that is there
            case.call_and_validate(headers=headers)

        ask()
        assert all(len(one.note) <= 4000 for one in store.given())
