"""Dialogues with a model whose answers are known: three turns, what ends them early, what is kept."""

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from random import Random
from typing import Any

import pyarrow.parquet as pq
import pytest

from infra.artifacts import Artifact, fingerprint_of
from infra.errors import EmptyDataset
from infra.storage import Storage
from models.tokenizer import Tokenizer
from tasks import dialogues
from tasks.configs.base import Resources
from tasks.configs.dialogues import DialoguesConfig
from tasks.dialogues import best
from tasks.dropped import FILE as DROPPED_FILE
from tasks.follow_ups import PERSONAS, User, choose, opened_turn
from tasks.judges.ground_truth import verifier
from tasks.judges.reward import Scorer
from tasks.rows import ATTRIBUTES, PROMPT, make_row, row_seed
from tasks.speaker import Dialogue, answer_refusal

Messages = list[dict[str, str]]
CONFIG = DialoguesConfig(rows=10, turns=3, min_turns=2, max_tokens=40, user_max_tokens=40, user_samples=2,
                         user_temperature=0.7, shard_rows=3, personas=("sceptic", "critic"))  # fmt: skip


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def prompt_row(
    text: str, family: str = "open", check: Mapping[str, Any] | None = None, licence: str = "CC-BY-4.0"
) -> dict[str, Any]:
    values = {"family": family, "topic": "t", "messages": [user(text)], "verifier": check, "source": "test",
              "synthetic": False, "generator": "", "licence": licence}  # fmt: skip
    return make_row(PROMPT, values, text)


COFFEE, TEA, RAIN, SNOW, ICE = (
    prompt_row(text) for text in ("How is coffee made?", "Is tea a leaf?", "Why rain?", "Why snow?", "Why ice?")
)
LONG = prompt_row("word " * 600)
OPENERS = [COFFEE, TEA, RAIN, SNOW, ICE, LONG]
ANSWERS = {
    COFFEE["id"]: ["Water runs through beans.", "Yes, it boils first.", "People have known it for ages."],
    TEA["id"]: ["Yes, it is a leaf.", "Ask a farmer.", "never said"],
    RAIN["id"]: ["Rain is rain and rain is rain and rain is rain and rain is rain.", "", ""],
    SNOW["id"]: ["Cold air makes flakes out of wet clouds.", "Cold air makes flakes out of wet clouds.", ""],
    ICE["id"]: ["Water that gets cold enough turns into ice, " + "which swims, " * 12 + "as you see", "", ""],
}
FOLLOW_UPS = {
    COFFEE["id"]: [" the water is hot? Thank you!", " it boils?"],
    TEA["id"]: [" it is green?", " it, as an AI. How can I help you?"],
    SNOW["id"]: [" it is wet?", ""],
}


def stage_fingerprint(config: DialoguesConfig, inputs: Mapping[str, Artifact]) -> str:
    digests = {name: artifact.fingerprint for name, artifact in inputs.items()}
    return fingerprint_of(config.stage, config.version, config.recipe(), digests)


def lessons(tokenizer: Tokenizer, fingerprint: str, config: DialoguesConfig) -> list[tuple[Any, str]]:
    """What the model has to say in each dialogue. Its openings follow from the stage's fingerprint and the prompt."""
    learnt: list[tuple[Any, str]] = []
    for opener in OPENERS[:-1]:
        rng = Random(row_seed(fingerprint, opener["id"]))
        asker, messages = choose(config, rng), [*opener["messages"]]
        for turn, answer in enumerate(ANSWERS[opener["id"]]):
            if turn:
                follow_up, opening = FOLLOW_UPS.get(opener["id"], ["", ""])[turn - 1], rng.choice(asker.openings)
                if not follow_up:
                    break
                learnt.append((opened_turn(tokenizer, asker.note(), messages, opening), follow_up))
                messages = [*messages, user(opening + follow_up.removesuffix(" Thank you!"))]
            learnt.append((messages, answer))
            messages = [*messages, assistant(answer)]
    return learnt


Given = dict[str, Artifact]


@pytest.fixture
def inputs_for(
    teach: Callable[..., Artifact], give_rows: Callable[..., Artifact], a_reward_model: Artifact, store: Storage,
    small_tokenizer: Tokenizer,
) -> Callable[[DialoguesConfig], Given]:  # fmt: skip
    def make(config: DialoguesConfig) -> Given:
        prompts = give_rows("prompts", OPENERS, PROMPT)
        address = fingerprint_of("given", 1, {"name": "generator"}, {})
        generator = Artifact(stage="given", kind="checkpoint", store=store.uri, fingerprint=address)
        given = {"generator": generator, "prompts": prompts, "reward_model": a_reward_model}
        return given | {
            "generator": teach("generator", lessons(small_tokenizer, stage_fingerprint(config, given), config))
        }

    return make


@pytest.fixture
def inputs(inputs_for: Callable[[DialoguesConfig], Given]) -> Given:
    return inputs_for(CONFIG)


def by_prompt(artifact: Artifact) -> dict[str, dict[str, Any]]:
    return {row["prompt_id"]: row for row in artifact.rows()}


def said_by(row: Mapping[str, Any], role: str) -> list[str]:
    return [message["content"] for message in row["messages"] if message["role"] == role]


def test_a_dialogue_takes_three_turns_and_politeness_goes(run_stage: Callable[..., Artifact], inputs: Given) -> None:
    made = run_stage(dialogues.run, CONFIG, **inputs)
    rows = by_prompt(made)
    coffee = rows[COFFEE["id"]]
    assert [message["role"] for message in coffee["messages"]] == ["user", "assistant"] * 3
    assert said_by(coffee, "assistant") == ANSWERS[COFFEE["id"]]
    first, second, third = said_by(coffee, "user")
    openings = {o for name in CONFIG.personas for some in PERSONAS[name].openings.values() for o in some}
    assert first == "How is coffee made?"
    assert second.removesuffix(" the water is hot?") in openings and third.removesuffix(" it boils?") in openings
    assert coffee["parents"] == [COFFEE["id"]] and coffee["licence"] == "Apache-2.0 AND CC-BY-4.0"
    assert (coffee["source"], coffee["synthetic"], coffee["family"]) == ("dialogues", True, "open")
    assert coffee["generator"] == inputs["generator"].fingerprint
    assert all(isinstance(coffee[name], float) for name in (*ATTRIBUTES, "reward"))


def test_what_broke_off_is_kept_where_long_enough_and_counted_by_reason(
    run_stage: Callable[..., Artifact], inputs: Given
) -> None:
    made = run_stage(dialogues.run, CONFIG, **inputs)
    rows = by_prompt(made)
    assert set(rows) == {COFFEE["id"], TEA["id"]}
    assert said_by(rows[TEA["id"]], "assistant") == ANSWERS[TEA["id"]][:2], "the third user turn was an assistant's"
    assert rows[TEA["id"]]["messages"][-1]["role"] == "assistant"
    assert made.manifest().counts == {
        "in": 6, "kept": 2, "shortened:user_assistant_like": 1, "dropped:runs_in_circles": 1,
        "dropped:repeats_answer": 1, "dropped:cut_off": 1, "dropped:too_long": 1,
    }  # fmt: skip
    dropped = sum(count for name, count in made.manifest().counts.items() if name.startswith("dropped:"))
    assert made.manifest().rows == 6 - dropped


def dropped_by(artifact: Artifact) -> dict[str, dict[str, Any]]:
    """One entry of each reason."""
    return {entry["reason"]: entry for entry in pq.read_table(BytesIO(artifact.read_bytes(DROPPED_FILE))).to_pylist()}


def test_what_was_left_out_is_kept_with_its_reason_and_the_conversation_so_far(
    run_stage: Callable[..., Artifact], inputs: Given
) -> None:
    made = run_stage(dialogues.run, CONFIG, **inputs)
    found, counts = dropped_by(made), made.manifest().counts
    assert {f"dropped:{reason}".replace("dropped:shortened", "shortened") for reason in found} | {"in", "kept"} == {
        *counts
    }
    assert found["repeats_answer"]["messages"][-1] == assistant(ANSWERS[SNOW["id"]][1])
    assert [message["role"] for message in found["repeats_answer"]["messages"]] == ["user", "assistant"] * 2
    assert found["cut_off"]["messages"][-1]["content"].startswith("Water that gets"), "as it was written"
    assert found["too_long"]["row_id"] == LONG["id"] and found["too_long"]["messages"] == LONG["messages"]
    refused = found["shortened:user_assistant_like"]
    assert refused["messages"][-1]["role"] == "user"
    assert refused["messages"][-1]["content"].endswith("it, as an AI. How can I help you?")
    persona, _, variant = refused["detail"].partition(", ")
    assert persona in CONFIG.personas and variant in CONFIG.variants
    assert (refused["row_id"], refused["family"], refused["topic"]) == (TEA["id"], "open", "t")


def test_the_manifest_tells_rewards_variants_diversity_and_how_busy_the_engine_was(
    run_stage: Callable[..., Artifact], inputs_for: Callable[[DialoguesConfig], Given]
) -> None:
    config = CONFIG.model_copy(update={"keep_share": 0.5, "shard_rows": 6})
    made = run_stage(dialogues.run, config, **inputs_for(config))
    (row,), manifest = made.rows(), made.manifest()
    metrics, low = manifest.metrics, dropped_by(made)["low_reward"]
    assert metrics["reward_kept"] == pytest.approx(row["reward"], abs=1e-5)
    assert metrics["reward_dropped"] < metrics["reward_kept"]
    assert low["detail"].startswith(f"reward {metrics['reward_dropped']:.3f}; ")
    assert low["messages"][-1]["role"] == "assistant" and len(low["messages"]) >= 4
    assert any(name.startswith("diversity/") for name in metrics)
    assert 0.5 < metrics["engine_busy"] <= 1
    begun = manifest.result["variants"]
    assert sum(counts["in"] for counts in begun.values()) == 6 and sum(one["kept"] for one in begun.values()) == 1


def test_rewards_below_zero_count_in_the_means() -> None:
    kept, low = ((a_dialogue("One.", "Two."), {"reward": reward}) for reward in (-1.5, -2.5))
    counts = dialogues.tally(CONFIG, [kept[0], low[0]], [kept, low], [kept])
    assert dialogues.mean_rewards(counts) == {"reward_kept": -1.5, "reward_dropped": -2.5}


def test_the_reward_decides_what_is_kept(
    run_stage: Callable[..., Artifact], inputs_for: Callable[[DialoguesConfig], Given]
) -> None:
    config = CONFIG.model_copy(update={"keep_share": 0.5, "shard_rows": 6})
    given = inputs_for(config)
    made = run_stage(dialogues.run, config, **given)
    counts, scorer = made.manifest().counts, Scorer(given["reward_model"], Resources())
    assert counts["kept"] == counts["dropped:low_reward"] == 1
    (row,) = made.rows()
    scores = scorer.score(row["messages"][:-1], row["messages"][-1]["content"])
    assert row["reward"] == pytest.approx(scores["reward"], rel=1e-6)


def test_a_threshold_that_nothing_reaches_is_an_error(
    run_stage: Callable[..., Artifact], inputs_for: Callable[[DialoguesConfig], Given]
) -> None:
    config = CONFIG.model_copy(update={"reward_threshold": 1e6})
    with pytest.raises(EmptyDataset, match=r"none of 6 dialogues was kept: .*dropped:low_reward 2"):
        run_stage(dialogues.run, config, **inputs_for(config))


def test_a_restart_gives_the_same_bytes_and_counts(
    run_stage: Callable[..., Artifact], interrupt: Callable[..., None], store: Storage, inputs: Given
) -> None:
    whole = run_stage(dialogues.run, CONFIG, **inputs)
    first = whole.manifest()
    for key in store.list(whole.key):
        store.delete(key)
    interrupt(dialogues.run, CONFIG, 1, **inputs)
    slow = CONFIG.model_copy(update={"resources": Resources(batch_rows=1)})
    again = run_stage(dialogues.run, slow, **inputs).manifest()
    assert again.sha256() == first.sha256() and again.counts == first.counts


def test_the_generator_can_be_asked_for_the_follow_up(
    run_stage: Callable[..., Artifact], inputs: Given, teach: Callable[..., Artifact],
    give_rows: Callable[..., Artifact],
) -> None:  # fmt: skip
    config = CONFIG.model_copy(
        update={"asking": "instruct", "personas": ("manager",), "turns": 2, "variants": {"concise": 1}}
    )
    told = [user("How is coffee made?"), assistant("Water runs through beans.")]
    request = User(PERSONAS["manager"], "concise").request(told)
    assert "User: How is coffee made?\n\nAssistant: Water runs through beans." in request
    assert "a busy manager" in request and "critical" in request
    learnt = [(told[:1], told[1]["content"]), ([user(request)], "Thanks! Which beans are the best ones?"),
              ([*told, user("Which beans are the best ones?")], "Fresh ones.")]  # fmt: skip
    given = inputs | {"generator": teach("generator 2", learnt), "prompts": give_rows("one", [COFFEE], PROMPT)}
    (row,) = run_stage(dialogues.run, config, **given).rows()
    assert said_by(row, "user") == ["How is coffee made?", "Which beans are the best ones?"]
    assert said_by(row, "assistant") == ["Water runs through beans.", "Fresh ones."]


SUMS = [
    prompt_row(f"{n} and 1?", "maths", verifier("number", {"value": str(n + 1)}), licence)
    for n, licence in ((1, "MIT"), (4, "CC0-1.0"), (7, "CC-BY-4.0"))
]
ALONE = prompt_row("8 and 8?", "lonely", verifier("number", {"value": "16"}))


def sum_lessons(wrong: str) -> list[tuple[Any, str]]:
    """All orders of the three sums; the answer to `wrong` is always wrong."""
    learnt: dict[str, tuple[Messages, str]] = {}
    for first in SUMS:
        for second in SUMS:
            for third in SUMS:
                if len({first["id"], second["id"], third["id"]}) == 3:
                    messages: Messages = []
                    for row in (first, second, third):
                        text = row["messages"][0]["content"]
                        answer = "It is 3." if text == wrong else f"It is {int(text[0]) + 1}."
                        messages = [*messages, user(text)]
                        learnt[str(messages)] = (messages, answer)
                        messages = [*messages, assistant(answer)]
    return [*learnt.values(), (ALONE["messages"], "It is 16.")]


def test_prompts_of_the_family_can_follow_each_other_checked_by_ground_truth(
    run_stage: Callable[..., Artifact], inputs: Given, teach: Callable[..., Artifact],
    give_rows: Callable[..., Artifact],
) -> None:  # fmt: skip
    prompts = give_rows("sums", [*SUMS, ALONE], PROMPT)
    given = inputs | {"generator": teach("summer", sum_lessons(wrong="7 and 1?")), "prompts": prompts}
    config = DialoguesConfig(asking="prompts", turns=3, min_turns=1, max_tokens=20, shard_rows=8)
    made = run_stage(dialogues.run, config, **given)
    counts, licences = made.manifest().counts, {row["id"]: row["licence"] for row in (*SUMS, ALONE)}
    assert counts == {"in": 4, "kept": 3, "dropped:wrong": 1, "shortened:wrong": 2, "shortened:user_no_prompt": 1}
    texts = {row["id"]: row["messages"][0]["content"] for row in (*SUMS, ALONE)}
    for row in made.rows():
        assert said_by(row, "user") == [texts[parent] for parent in row["parents"]]
        assert "7 and 1?" not in said_by(row, "user"), "its answer was wrong, so it is no part of any dialogue"
        assert set(row["licence"].split(" AND ")) == {"Apache-2.0", *(licences[parent] for parent in row["parents"])}


def test_three_right_answers_make_a_whole_dialogue(
    run_stage: Callable[..., Artifact], inputs: Given, teach: Callable[..., Artifact],
    give_rows: Callable[..., Artifact],
) -> None:  # fmt: skip
    given = inputs | {"generator": teach("right sums", sum_lessons("")), "prompts": give_rows("sums", SUMS, PROMPT)}
    config = DialoguesConfig(asking="prompts", turns=3, max_tokens=20)
    made = run_stage(dialogues.run, config, **given)
    assert made.manifest().counts == {"in": 3, "kept": 3}
    for row in made.rows():
        assert sorted(row["parents"]) == sorted(one["id"] for one in SUMS)
        assert row["licence"] == "Apache-2.0 AND CC-BY-4.0 AND CC0-1.0 AND MIT"


def test_no_dialogue_at_all_is_an_error_with_the_reasons(
    run_stage: Callable[..., Artifact], inputs: Given, give_rows: Callable[..., Artifact]
) -> None:
    given = inputs | {"prompts": give_rows("long", [LONG], PROMPT)}
    with pytest.raises(EmptyDataset, match=r"none of 1 dialogues was kept: .*dropped:too_long 1"):
        run_stage(dialogues.run, CONFIG, **given)


def test_prompts_that_cannot_open_a_dialogue_are_left_out() -> None:
    rows = [COFFEE, SUMS[0], COFFEE | {"id": "x", "messages": [user("Hi"), assistant("Hello")]}]
    assert dialogues.suited_prompts(CONFIG, rows) == [COFFEE]
    assert dialogues.suited_prompts(CONFIG.model_copy(update={"asking": "prompts"}), rows) == [COFFEE, SUMS[0]]
    assert dialogues.suited_prompts(CONFIG.model_copy(update={"families": ("open",)}), rows) == [COFFEE]
    with pytest.raises(EmptyDataset, match=r"families=\('poems',\).*prompts by family: open 2, maths 1"):
        dialogues.suited_prompts(CONFIG.model_copy(update={"families": ("poems",)}), rows)


def test_prompts_of_the_preference_side_and_unsafe_ones_open_no_dialogue() -> None:
    rows = [COFFEE | {"side": "sft"}, COFFEE | {"side": "preference"}, COFFEE | {"unsafe": True}]
    assert dialogues.suited_prompts(CONFIG, rows) == rows[:1]


def a_dialogue(*said: str, check: Mapping[str, Any] | None = None) -> Dialogue:
    return Dialogue(COFFEE, User(PERSONAS["critic"], "concise"), Random(0), check, [], said=list(said))


@pytest.mark.parametrize(
    ("answer", "said", "check", "reason"),
    [("A good answer.", (), None, ""),
     ("", (), None, "cut_off"),
     ("I like it. It is what people drink every day. It is what people drink every day.", (), None, "runs_in_circles"),
     ("The water runs through the beans.", ("The water runs through the beans, slowly.",), None, "repeats_answer"),
     ("It is 2.", (), "2", ""),
     ("It is 2.", ("It is 2.",), "2", ""),  # ground truth decides alone
     ("It is 3.", (), "2", "wrong"),
     ("", (), "2", "cut_off")],
)  # fmt: skip
def test_refused_answers_name_their_reason(answer: str, said: Sequence[str], check: str | None, reason: str) -> None:
    truth = None if check is None else verifier("number", {"value": check})
    assert answer_refusal(answer, a_dialogue(*said, check=truth)) == reason


def test_the_best_are_kept_in_their_order() -> None:
    scored = [(a_dialogue(), {"reward": reward}) for reward in (1.0, 5.0, 2.0, 4.0)]

    def kept(**changes: Any) -> list[float]:
        return [scores["reward"] for _, scores in best(CONFIG.model_copy(update=changes), scored)]

    assert kept() == [1.0, 5.0, 2.0, 4.0]
    assert kept(reward_threshold=2.0) == [5.0, 2.0, 4.0]
    assert kept(keep_share=0.5) == [5.0, 4.0]
    assert kept(keep_share=0.5, reward_threshold=4.5) == [5.0]
    assert kept(reward_threshold=9.0) == []
