"""What words support, and where they stand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from needle_mcp.planner.evidence import Evidence, chunks, find, gather
from needle_mcp.types import Context, Observation, Request, Step, ToolCall


def values(text: str, kind: str) -> list[float | int | str]:
    return [found.value for found in find(text) if found.kind == kind]


def evidence(text: str) -> Evidence:
    return gather(Context(request=Request(text=text), tools=()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("deposit $2,000,000 at once", [2_000_000]),
        ("a radius of 0.015 m", [0.015]),
        ("12, 15 and 18", [12, 15, 18]),
        ("minus -3.5 degrees", [-3.5]),
        ("1.5k followers", [1500]),
        ("twenty-five apples", [25]),
        ("three hundred and two pages", [302]),
        ("half a dozen eggs", [6]),
        ("300 K", [300]),
        ("$300K", [300, 300_000]),
        ("5m", [5, 5_000_000]),
        ("2 million", [2_000_000]),
        ("version v2 of abc123", []),
    ],
)
def test_numbers_are_found_as_said_in_digits_and_words(text: str, expected: list[float]) -> None:
    assert values(text, "number") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("wake me at 6:45 am", ["06:45"]),
        ("at 3:00 PM sharp", ["15:00"]),
        ("17:30 works", ["17:30"]),
        ("lunch at noon", ["12:00"]),
        ("half past six in the morning", ["06:30"]),
        ("quarter to nine in the evening", ["20:45"]),
        ("wake me at six", ["06:00", "18:00"]),
        ("10am", ["10:00"]),
        ("at 5 % over 2 years", []),
        ("for 20 minutes", []),
    ],
)
def test_clock_times_are_normalised_and_ambiguous_ones_keep_both_halves_of_the_day(
    text: str, expected: list[str]
) -> None:
    assert values(text, "time") == expected


def test_a_duration_offers_the_unit_that_the_parameter_asks_for() -> None:
    said = evidence("a timer for 10 minutes")
    assert list(said.numbers("duration_seconds", {"type": "integer"})) == ["10", "600"]
    assert list(said.numbers("minutes", {"type": "integer"})) == ["10"]
    assert list(evidence("an hour").numbers("minutes", {"type": "integer"})) == ["1", "60"]


def test_a_percentage_offers_the_rate_too() -> None:
    assert list(evidence("at 5 %").numbers("rate", {"type": "number"})) == ["5", "0.05"]


def test_numbers_outside_the_schemas_bounds_are_no_candidates() -> None:
    said = evidence("12, 15 and 180")
    assert list(said.numbers("n", {"type": "integer", "minimum": 13, "maximum": 100})) == ["15"]
    assert list(evidence("1.5").numbers("n", {"type": "integer"})) == []


def test_a_time_offers_hour_and_minute() -> None:
    said = evidence("alarm for 10:30 AM")
    assert "10" in said.numbers("hour", {"type": "integer", "description": "Hour of the day"})
    assert "30" in said.numbers("minute", {"type": "integer"})


def test_a_value_is_traced_to_the_words_that_gave_it() -> None:
    said = evidence("call Priya at half past six in the evening")
    name = said.trace("/who", "Priya", "who", {"type": "string"})
    assert (name.source, name.start, name.end, name.normalised) == ("request", 5, 10, False)
    time = said.trace("/time", "18:30", "time", {"type": "string"})
    assert (time.source, time.text, time.normalised) == ("request", "half past six in the evening", True)
    assert said.trace("/x", "Bob", "x", {"type": "string"}).source == "model"
    assert said.trace("/on", True, "on", {"type": "boolean"}).source == "schema"


def test_results_of_earlier_steps_are_evidence() -> None:
    step = Step(
        call=ToolCall(tool="a.b", arguments={}),
        observation=Observation(ok=True, content='{"contact_id": "c_4821", "age": 44}'),
    )
    said = gather(Context(request=Request(text="text her"), tools=(), steps=(step,)))
    assert said.trace("/id", "c_4821", "id", {"type": "string"}).source == "result"
    assert said.numbers("age", {"type": "integer"})["44"].source == "result"
    assert "c_4821" in chunks(step.observation.content)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("open ~/notes/a.txt, please", "~/notes/a.txt"),
        ("mail bob@example.com.", "bob@example.com"),
        ("Priya's file", "Priya"),
        ('say "hello"', "hello"),
        ("at 12:30!", "12:30"),
        ("see https://x.org/a?b=1", "https://x.org/a?b=1"),
        ("BER-LIS", "LIS"),
    ],
)
def test_spans_may_begin_and_end_around_whole_things(text: str, whole: str) -> None:
    assert whole in chunks(text)


@pytest.mark.parametrize(
    ("name", "description", "text", "expected"),
    [
        ("repo_path", "", "git status of /home/ana/app please", ("/home/ana/app",)),
        ("path", "", "open docs/a.txt and ~/b.md.", ("docs/a.txt", "~/b.md")),
        ("sourceFile", "", "copy ./a to ../b", ("./a", "../b")),
        ("path", "", "open the report", ()),
        ("to", "E-mail address", "write to ana@example.org and bo@example.org", ("ana@example.org", "bo@example.org")),
        ("url", "", "fetch https://example.org/a?b=1, then stop", ("https://example.org/a?b=1",)),
        ("title", "", "a note about /tmp/x", ()),
        ("email_body", "", "mail ana@example.org that I'm late", ()),
    ],
)
def test_a_parameter_for_paths_addresses_or_links_takes_one_of_those_said(
    name: str, description: str, text: str, expected: tuple[str, ...]
) -> None:
    assert evidence(text).things(name, {"type": "string", "description": description}) == expected


@settings(deadline=None)
@given(st.text(max_size=200))
def test_chunks_joined_are_the_text_and_finding_never_fails(text: str) -> None:
    assert "".join(chunks(text)) == text
    for found in find(text):
        assert 0 <= found.start < found.end <= len(text)
