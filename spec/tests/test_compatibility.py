"""What changes for others since the last release is named in the changelog."""

import json
from typing import Any

import pytest
import surface
from surface import Difference, differences, untold

PARTS: surface.Record = {
    "contract": {
        "getVideoCall": "GET /video-calls/{id}/",
        "getVideoCall(id)": "to be given, in path, type integer",
        "getVideoCall 200": "VideoCall",
        "VideoCall": "object",
        "VideoCall.id": "always there, type integer",
    },
    "python": {"video_calls.Calls": "class", "video_calls.Calls.get": "-> VideoCall"},
}


def with_changes(part: str, **lines: str | None) -> surface.Record:
    """The parts with lines added, changed or, where None is given, removed."""
    changed = {**PARTS[part], **lines}
    return {**PARTS, part: {name: line for name, line in changed.items() if line is not None}}


def test_every_difference_since_the_last_release_is_in_the_changelog() -> None:
    _, released = surface.released()
    changelog = surface.CHANGELOG.read_text(encoding="utf-8")
    missing = untold(differences(released, surface.surface()), changelog)
    assert not missing, "\n".join(["", *missing, surface.ADVICE])


def test_the_last_release_has_a_section_in_the_changelog() -> None:
    version, _ = surface.released()
    changelog = surface.CHANGELOG.read_text(encoding="utf-8")
    assert surface.section(changelog, "## ", version)


def test_the_record_reads_like_what_it_is_of() -> None:
    record = surface.surface()
    assert record["contract"]["joinVideoCall"] == "POST /video-calls/{id}/join/"
    assert record["contract"]["VideoCallCreate.doctor"].startswith("to be given, ")
    assert record["rules"]["join.window"] == (
        "must, joinVideoCall, 400, This call is not scheduled to start yet"
    )
    python = record["python"]
    assert python["video_calls.Calls.create(idempotency_key)"] == "may be given, by name, str | None = None"
    assert python["video_calls.NotParticipantError"] == "class(PermissionDeniedError)"
    assert python["video_calls_server.testing.Control.clock"] == "an attribute"
    assert record["commands"]["video-calls-contract run --level"] == (
        "may be given, must or should, by default must"
    )
    assert record["settings"]["--port"] == "VIDEO_CALLS_SERVER_PORT, Settings.port: int = 8000"
    assert record["pytest"]["--contract-level"] == "must or should, by default must"
    assert " at 0x" not in json.dumps(record)


def test_words_for_people_are_no_part_of_what_a_schema_asks() -> None:
    """A property may well be called as one of the keywords that hold them."""
    words = {"description": "How it ended.", "example": "busy"}
    member = {"type": "object", "properties": {"description": {"type": "string", **words}}, **words}
    assert surface.described(member) == r'properties {"description": "type \"string\""}, type "object"'
    assert surface.described({"anyOf": [{"type": "null", **words}]}) == r'anyOf ["type \"null\""]'


def test_nothing_is_different_where_nothing_was_changed() -> None:
    assert differences(PARTS, PARTS) == []


@pytest.mark.parametrize(
    ("part", "lines", "difference", "breaks"),
    [
        (
            "contract",
            {"endVideoCall": "POST /e/"},
            Difference("endVideoCall", "added", now="POST /e/"),
            False,
        ),
        (
            "contract",
            {"getVideoCall(page)": "may be given, in query"},
            Difference("getVideoCall(page)", "added", now="may be given, in query"),
            False,
        ),
        (
            "contract",
            {"getVideoCall(why)": "to be given, in query"},
            Difference("getVideoCall(why)", "added", now="to be given, in query"),
            True,
        ),
        (
            "contract",
            {"VideoCall.id": None},
            Difference("VideoCall.id", "removed", before="always there, type integer"),
            True,
        ),
        (
            "contract",
            {"VideoCall.id": "always there, type string"},
            Difference("VideoCall.id", "changed", "always there, type integer", "always there, type string"),
            True,
        ),
        (
            "python",
            {"video_calls.Calls.get": None},
            Difference("video_calls.Calls.get", "removed", before="-> VideoCall"),
            True,
        ),
    ],
)
def test_what_was_added_removed_or_changed_is_seen(
    part: str, lines: dict[str, Any], difference: Difference, breaks: bool
) -> None:
    assert differences(PARTS, with_changes(part, **lines)) == [difference]
    assert difference.breaks == breaks


def test_a_whole_part_that_comes_or_goes_is_seen() -> None:
    only = {"contract": PARTS["contract"]}
    assert [each.happened for each in differences(only, PARTS)] == ["added"]
    assert [each.happened for each in differences(PARTS, only)] == ["removed"]


def test_what_belongs_to_a_thing_comes_and_goes_with_it() -> None:
    operation = {"endVideoCall": "POST /end/", "endVideoCall(id)": "to be given", "endVideoCall 200": "X"}
    now = with_changes("contract", **operation)
    assert [each.identifier for each in differences(PARTS, now)] == ["endVideoCall"]
    assert [each.identifier for each in differences(now, PARTS)] == ["endVideoCall"]
    namesake = with_changes("contract", endVideoCall="POST /end/", endVideoCalls="GET /ends/")
    assert len(differences(PARTS, namesake)) == 2


def test_a_change_is_not_covered_by_an_addition() -> None:
    now = with_changes("contract", **{"VideoCall": "array", "VideoCall.id": "other"})
    assert [each.identifier for each in differences(PARTS, now)] == ["VideoCall", "VideoCall.id"]


ADDED = Difference("video_calls.Calls.find", "added", now="-> VideoCall")
GONE = Difference("VideoCall.id", "removed", before="always there")


@pytest.mark.parametrize(
    ("changelog", "told"),
    [
        ("## Unreleased\n\n### Added\n\n- `video_calls.Calls.find` finds.\n\n## 0.1.0\n", [ADDED]),
        (
            "## Unreleased\n\n- `video_calls.Calls.find`\n### Breaking\n- `VideoCall.id` went.\n",
            [ADDED, GONE],
        ),
        ("## Unreleased\n\n### Breaking\n\n- `VideoCall.id` went.\n### Added\n\n## 0.1.0\n", [GONE]),
        ("## Unreleased\n\n### Removed\n\n- `VideoCall.id`\n", []),
        ("## Unreleased\n\n- video_calls.Calls.find, VideoCall.id\n", []),
        ("## Unreleased\n\n## 0.1.0\n\n### Breaking\n\n- `VideoCall.id`, `video_calls.Calls.find`\n", []),
        ("", []),
    ],
)
def test_only_the_right_section_tells_of_a_difference(changelog: str, told: list[Difference]) -> None:
    assert len(untold([ADDED, GONE], changelog)) == 2 - len(told)
    assert not untold(told, changelog)


def test_the_message_says_what_happened_and_where_to_tell_it() -> None:
    [of_added, of_gone] = untold([ADDED, GONE], "")
    assert of_added == (
        "`video_calls.Calls.find` is new: -> VideoCall. "
        "Name it in CHANGELOG.md under Unreleased, in backticks."
    )
    assert "under Unreleased, Breaking" in of_gone
