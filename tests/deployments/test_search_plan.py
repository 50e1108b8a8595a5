"""`ratchet plan` with a range: candidates are stages, and nobody knows the addresses behind an open choice."""

from typing import Any


def test_candidates_are_listed_and_what_follows_is_unknown(ratchet: Any) -> None:
    change = "general_sft.learning_rate={low: 1e-5, high: 1e-4, points: 2}"
    ended = ratchet("plan", "--preset", "tiny", "--set", change, "--json")
    assert ended.code == 0, ended.err
    states = {stage["name"]: stage["state"] for stage in ended.document["iterations"][0]["stages"]}
    tried = ["general sft [1 of 2]", "general sft [1 of 2] dev", "general sft [2 of 2]", "general sft [2 of 2] dev"]
    assert [states[name] for name in (*tried, "general sft search")] == ["missing"] * 5
    assert {states[name] for name in ("dpo", "rpo 3 dev", "candidate exam", "gate")} == {"unknown"}
    assert "general sft" not in states and states["generator exam"] == "missing"


def test_a_range_where_nothing_chooses_is_bad_input(ratchet: Any) -> None:
    ended = ratchet("plan", "--preset", "tiny", "--set", "reward_model.learning_rate={low: 1e-5, high: 1e-4}", "--json")
    assert ended.code == 2 and "reward_model.learning_rate" in ended.document["error"]["message"]
