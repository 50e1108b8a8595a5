"""Genetic Instruct with real engines: what is bred, dropped, kept, resumed; and that no generated code is ever run.

The fast tests have a model of random weights whose vocabulary holds whole ends of tasks and whole solutions, so that
what it babbles is often a task or a program. Each of its programs leaves a trace on disk if anybody runs it.
"""

import ast
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import tokenizers

from infra.artifacts import Artifact, fingerprint_of, input_fingerprints
from infra.output import Output
from infra.storage import Storage
from models.chat import CHATML_TEMPLATE
from models.checkpoint import save_model
from models.config import ModelConfig
from models.decoder import init_model
from models.engine import SamplingParams
from models.tokenizer import Tokenizer
from tasks import code_instruct
from tasks.code_instruct import (
    SEEDS,
    TEMPLATES,
    Breeder,
    Child,
    seed_members,
    select,
    solution_ask,
    solution_of,
    task_ask,
    task_fault,
)
from tasks.colonies import Colonies, Member, draw_parents, fittest
from tasks.configs.base import Resources
from tasks.configs.code_instruct import CodeInstructConfig
from tasks.configs.mix import DeduplicateConfig, MixConfig
from tasks.generation import Writer, open_engine
from tasks.mix import run as mix
from tasks.near_duplicates import NearDuplicates
from tasks.python_code import code_block, fault, parsed
from tasks.rows import row_id
from tasks.shingles import words_of

SMALL = CodeInstructConfig(
    colonies=2, generations=2, population=16, target=6, instruction_temperature=1.0, instruction_top_p=1.0,
    code_temperature=1.0, code_top_p=1.0, instruction_max_tokens=5, code_max_tokens=4,
)  # fmt: skip
THINGS = ("odd numbers", "long words", "prime numbers", "empty lines", "old prices", "first names", "last letters",
          "blue cars", "short roads", "round tables", "loud birds", "sweet apples")  # fmt: skip
PLACES = ("a list", "a text", "a tuple", "a dictionary", "a sentence", "a string")


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that exists once any generated program was run."""
    return tmp_path_factory.mktemp("trace") / "ran"


def babbler(folder: Path, texts: list[str]) -> Path:
    """A folder with a model of random weights over bytes and these texts, each of them one token."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    backend.add_tokens([tokenizers.AddedToken(text, normalized=False) for text in texts])
    backend.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
    end = backend.token_to_id("<|endoftext|>") or 0
    tokenizer = Tokenizer(backend, CHATML_TEMPLATE, bos_id=None, eos_id=end, pad_id=end)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2,
             "head_dim": 8, "rotary_fraction": 0.5, "init_std": 0.1, "max_positions": 4096}  # fmt: skip
    save_model(init_model(ModelConfig("nemotron", tokenizer.vocab_size, eos_ids=(end,), **shape), 0), tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def babbler_folder(tmp_path_factory: pytest.TempPathFactory, trace: Path) -> Path:
    ends = [f" {thing} in {place} number {n}.\n" for thing in THINGS for place in PLACES for n in range(5)]
    run_me = f"open({str(trace)!r}, 'w').close()"
    codes = [f" f{n}(x):\n    return x {sign} {n}\n{run_me}\n```" for sign in "+-*/" for n in range(150)]
    return babbler(tmp_path_factory.mktemp("babbler"), [*ends, *codes])


@pytest.fixture
def generator(give: Callable[..., Artifact], babbler_folder: Path) -> Artifact:
    return give("babbler", lambda output: output.write_folder(babbler_folder), kind="checkpoint", licence="MIT")


@pytest.fixture
def bred(run_stage: Callable[..., Artifact], generator: Artifact, trace: Path) -> Artifact:
    """The stage's artifact with SMALL."""
    made = run_stage(code_instruct.run, SMALL, generator=generator)
    assert not trace.exists(), "a generated program was run"
    return made


def an_output(config: CodeInstructConfig, generator: Artifact, folder: Path, kind: type[Output] = Output) -> Output:
    inputs = input_fingerprints({"generator": generator})
    fingerprint = fingerprint_of(config.stage, config.version, config.recipe(), inputs)
    store = Storage.open(folder / "another store")
    artifact = Artifact(stage=config.stage, kind=config.kind, fingerprint=fingerprint, store=store.uri)
    return kind(artifact, store, lambda event: None, folder)


class Killed(Output):
    """Dies right after its first resume point."""

    def save_checkpoint(self, step: int, write: Callable[[Path], None]) -> None:
        super().save_checkpoint(step, write)
        raise KeyboardInterrupt


def member(number: int, fitness: float = 0.0, task: str = "") -> Member:
    messages = [{"role": "user", "content": task or f"Task {number}."}, {"role": "assistant", "content": "```\n1\n```"}]
    return Member({"id": f"{number:032x}", "messages": messages, "parents": []}, fitness)


def child(parent: Member, task: str, operation: str = "mutate:similar") -> Child:
    return Child("0/0/0", 0, [parent], operation, "counts", Random(0), task=task)


@pytest.mark.parametrize("seed", SEEDS, ids=[seed["task"][29:60] for seed in SEEDS])
def test_hand_written_solutions_are_right(seed: dict[str, str]) -> None:
    """These are ours, and the only ones that are run."""
    names: dict[str, Any] = {}
    exec(seed["code"], names)
    assert eval(seed["check"], names) and fault(seed["code"]) == ""


def test_there_are_enough_seeds_and_none_twice() -> None:
    rows = [one.row for one in seed_members()]
    assert len(rows) >= 24 and len({row["id"] for row in rows}) == len(rows)
    everyone = Colonies(seed_members(), [seed_members()])
    known = NearDuplicates(DeduplicateConfig(similarity=SMALL.similarity))
    for one in everyone.seeds:
        assert not known.has_similar(words_of(one.task)), one.task
        known.add(words_of(one.task))
    assert all(not row["synthetic"] and row["licence"] == "Apache-2.0" and row["generator"] == "" for row in rows)


def test_templates_are_whole() -> None:
    assert len(TEMPLATES["mutate"]) >= 5
    parent = seed_members()[0]
    for operation in [f"mutate:{name}" for name in TEMPLATES["mutate"]] + ["crossover"]:
        name = operation.split(":")[-1]
        for opening in (
            TEMPLATES["mutate"].get(name, TEMPLATES.get(name))["openings"] if name != "condition" else ["Use"]
        ):
            one = Child("0/0/0", 0, [parent, parent], operation, opening, Random(1))
            ask = task_ask(one, SamplingParams(max_tokens=9))
            assert ask.messages[-1]["role"] == "assistant"
            assert ask.messages[-1]["content"].startswith("Write a Python function that")
            assert parent.task in ask.messages[-2]["content"] and "{" not in "".join(m["content"] for m in ask.messages)


def test_rows_carry_their_whole_descent(bred: Artifact, generator: Artifact) -> None:
    rows, known = bred.rows(), {entry["id"] for entry in bred.read_json("colonies.json")}
    seeds, born = rows[: len(SEEDS)], rows[len(SEEDS) :]
    assert [row["messages"] for row in seeds] == [one.row["messages"] for one in seed_members()]
    assert 2 <= len(born) <= SMALL.target
    ancestors = known | {row["id"] for row in seeds}
    for row in born:
        task, answer = row["messages"]
        assert row["family"] == "code" and row["synthetic"] and row["generator"] == generator.fingerprint
        assert row["licence"] == "Apache-2.0 AND MIT" and row["prompt_id"] == row_id([task])
        assert row["id"] == row_id(row["messages"], row["parents"])
        assert len(row["parents"]) == (2 if row["source"] == "code_instruct/crossover" else 1)
        assert set(row["parents"]) <= ancestors
        assert task["role"] == "user" and task["content"].startswith("Write a Python function that")
        code = code_block(answer["content"])
        assert answer["role"] == "assistant" and code and fault(code) == ""
    kept = [entry for entry in bred.read_json("colonies.json") if entry["kept"]]
    odds = {entry["id"]: entry["log_odds"] for entry in kept}
    assert [odds[row["id"]] for row in born] == sorted(odds.values(), reverse=True)


def test_every_child_is_kept_or_dropped_for_a_reason(bred: Artifact) -> None:
    counts, rejected = bred.manifest().counts, bred.read_json("rejected.json")
    dropped = Counter({name.removeprefix("dropped:"): n for name, n in counts.items() if name.startswith("dropped:")})
    assert counts["in"] == len(SEEDS) + SMALL.colonies * SMALL.generations * SMALL.population
    assert counts["kept"] == len(bred.rows()) == counts["in"] - dropped.total()
    at_the_end = {"equal", "near_duplicate", "over_target"}
    told = Counter(entry["reason"] for entry in rejected)
    assert {name: n for name, n in dropped.items() if name not in at_the_end} == {
        name: n for name, n in told.items() if name not in at_the_end
    }
    assert dropped["syntax"] and dropped["unfit"] and len(told) >= 3
    survivors = bred.read_json("colonies.json")
    for colony in range(SMALL.colonies):
        for generation in range(1, SMALL.generations + 1):
            mine = [one for one in survivors if (one["colony"], one["generation"]) == (colony, generation)]
            assert len(mine) <= max(1, round(SMALL.fit_share * SMALL.population))
    assert bred.manifest().metrics["survivors"] == len(survivors)
    assert 0 < bred.manifest().metrics["verdict_mass"] <= 1


def test_a_killed_job_goes_on_with_the_same_bytes(bred: Artifact, generator: Artifact, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        code_instruct.run(SMALL, an_output(SMALL, generator, tmp_path, Killed), generator=generator)
    output = an_output(SMALL, generator, tmp_path)
    outcome = code_instruct.run(SMALL, output, generator=generator)
    again = output.commit(outcome, recipe={}, inputs={"generator": generator}, version=1, label="", device="",
                          wall_s=0.0, code_version="")  # fmt: skip
    assert again.store != bred.store
    assert {file.path: file.sha256 for file in again.manifest().files} == {
        file.path: file.sha256 for file in bred.manifest().files
    }
    assert again.manifest().counts == bred.manifest().counts
    tokens = again.manifest().metrics["generated_tokens"], bred.manifest().metrics["generated_tokens"]
    assert 0 < tokens[0] < tokens[1], "the first generation was made twice"


def test_the_batch_changes_nothing_and_the_seed_does(
    bred: Artifact, generator: Artifact, tmp_path: Path, run_stage: Callable[..., Artifact]
) -> None:
    alone = SMALL.model_copy(update={"resources": Resources(batch_rows=3)})
    assert run_stage(code_instruct.run, alone, generator=generator).fingerprint == bred.fingerprint
    output = an_output(alone, generator, tmp_path)
    code_instruct.run(alone, output, generator=generator)
    assert output.read_shard(0) == bred.rows()
    other = SMALL.model_copy(update={"seed": 1, "generations": 1})
    assert run_stage(code_instruct.run, other, generator=generator).rows()[len(SEEDS) :] != bred.rows()[len(SEEDS) :]


def test_mutation_and_crossover_are_drawn_by_seed(generator: Artifact, tmp_path: Path) -> None:
    def plan(share: float, parents: int = 2, seed: int = 0) -> list[tuple[str, str, list[str]]]:
        config = CodeInstructConfig(crossover_share=share, crossover_parents=parents, population=40, seed=seed)
        writer = Writer(open_engine(generator, config.resources), an_output(config, generator, tmp_path))
        breeder, colonies = Breeder(config, writer, generator), Colonies(seed_members(), [[], []])
        return [
            (one.operation, one.opening, [parent.id for parent in one.parents])
            for colony in range(2) for one in breeder.conceive(colonies, colony)
        ]  # fmt: skip

    assert {operation for operation, _, _ in plan(0)} == {f"mutate:{name}" for name in TEMPLATES["mutate"]}
    crossed = plan(1, parents=3)
    assert {operation for operation, _, _ in crossed} == {"crossover"}
    assert all(len(set(parents)) == 3 for _, _, parents in crossed)
    mixed = plan(0.5)
    assert 20 < sum(operation == "crossover" for operation, _, _ in mixed) < 60
    assert mixed == plan(0.5) != plan(0.5, seed=1)
    assert mixed[:40] != mixed[40:], "both colonies drew the same"


def test_survivors_become_parents_in_their_own_colony_only(generator: Artifact, tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"population": 80})
    writer = Writer(open_engine(generator, config.resources), an_output(config, generator, tmp_path))
    own, others = [member(1), member(2)], [member(3)]
    colonies = Colonies(seed_members(), [own, others], generation=1)
    drawn = {parent.id for one in Breeder(config, writer, generator).conceive(colonies, 0) for parent in one.parents}
    assert {one.id for one in [*seed_members(), *own]} == drawn


def test_no_two_calls_share_their_randomness(generator: Artifact, tmp_path: Path) -> None:
    writer = Writer(open_engine(generator, SMALL.resources), an_output(SMALL, generator, tmp_path))
    breeder, params, asks = Breeder(SMALL, writer, generator), SamplingParams(), []
    for generation in range(2):
        colonies = Colonies(seed_members(), [[], []], generation=generation)
        for one in [*breeder.conceive(colonies, 0), *breeder.conceive(colonies, 1)]:
            asks += [task_ask(one, params).id, solution_ask(one, params).id]
    assert len(asks) == len(set(asks)) == 2 * 2 * 2 * SMALL.population


def test_parents_take_turns_and_the_fittest_stay() -> None:
    pool = [member(number) for number in range(5)]
    drawn = draw_parents(pool, [1, 2, 2, 9], Random(0))
    assert [len(parents) for parents in drawn] == [1, 2, 2, 5]
    assert {one.id for parents in drawn[:3] for one in parents} == {one.id for one in pool}
    odds = [0.1, 0.9, -3.0, 0.9, 0.5]
    members = [member(number, fitness) for number, fitness in enumerate(odds)]
    assert [one.fitness for one in fittest(members, 0.6)] == [0.9, 0.9, 0.5]
    assert fittest(members, 0.01) == [members[1]] and fittest([], 0.6) == []


@pytest.mark.parametrize(
    ("task", "finished", "reason"),
    [
        ("Write a Python function that counts the pages of a book.", True, ""),
        ("Write a Python function that counts the pages of a", False, "task_cut_off"),
        ("Write a Python function that counts the pages of a", True, "unfinished"),
        ("Count!", True, "too_short"),
        ("WRITE a Python function that counts the vowels in a string!", True, "no_change"),
        ("Write a Python function that counts all the vowels in a string.", True, ""),
        ("Write a Python function that checks whether a given number is prime.", True, ""),
        ("Write a Python function that checks whether a number is prime, please.", True, "near_duplicate"),
        ("Write a Python function that counts pages. Think of a similar task.", True, "repeats_the_request"),
        ("Write a Python function that counts the digits in a text.", True, "near_duplicate"),  # a template's example
    ],
)
def test_tasks_that_are_not_worth_a_solution(task: str, finished: bool, reason: str) -> None:
    known = code_instruct.known_tasks(SMALL, seed_members())
    vowels = next(one for one in seed_members() if "vowels" in one.task)
    assert task_fault(child(vowels, task), finished, known) == reason
    if not reason:
        assert task_fault(child(vowels, task), finished, known) == "near_duplicate"


def test_solutions_are_taken_from_their_block_or_refused() -> None:
    parent = seed_members()[0]
    copied = parent.answer.replace("sum_even", "even_sum").replace("number", "n")
    assert solution_of("```python\ndef f(x):\n    return x + 1\n", True, [parent]) == (
        "def f(x):\n    return x + 1",
        "",
    )
    assert solution_of("```python\ndef f(x):\n    return x +", False, [parent])[1] == "code_cut_off"
    assert solution_of("def f(x):\n    return x", True, [parent]) == ("", "no_code_block")
    assert solution_of("```python\ndef f(x):\n    pass\n```", True, [parent])[1] == "trivial_body"
    assert solution_of(copied, True, [parent])[1] == "parents_solution"
    assert solution_of(copied, True, [seed_members()[1]])[1] == ""


def test_the_best_of_all_colonies_are_taken_without_duplicates() -> None:
    task = "Write a Python function that counts the {} of a {}."
    first = [member(1, 0.5, task.format("pages", "book")), member(2, 0.1, task.format("wheels", "car"))]
    second = [
        member(3, 0.9, task.format("pages", "book")), member(4, 0.4, task.format("pages", "book") + " Hurry."),
        member(5, 0.3, task.format("legs", "table")), member(6, 2.0, SEEDS[0]["task"]),
    ]  # fmt: skip
    kept, lost = select(SMALL.model_copy(update={"target": 2}), Colonies(seed_members(), [first, second]))
    assert [one.fitness for one in kept] == [0.9, 0.3]
    assert lost == {"dropped:near_duplicate": 2, "dropped:equal": 1, "dropped:over_target": 1}


def test_rows_go_into_a_mix(bred: Artifact, run_stage: Callable[..., Artifact]) -> None:
    mixed = run_stage(mix, MixConfig(code_share=1.0, replay_share=0.0), code=bred)
    assert {row["id"] for row in mixed.rows()} == {row["id"] for row in bred.rows()}


def test_a_generator_without_a_usable_child_leaves_the_seeds(
    give: Callable[..., Artifact], run_stage: Callable[..., Artifact], tmp_path: Path
) -> None:
    folder = babbler(tmp_path / "no code", [f" {thing} in {place}.\n" for thing in THINGS for place in PLACES])
    generator = give("no code", lambda output: output.write_folder(folder), kind="checkpoint", licence="MIT")
    made = run_stage(code_instruct.run, SMALL, generator=generator)
    assert len(made.rows()) == len(SEEDS) and made.manifest().result["generated"] == 0
    assert made.manifest().counts["dropped:syntax"] + made.manifest().counts["dropped:code_cut_off"] > 10


def test_a_changed_template_is_another_recipe() -> None:
    recipe = SMALL.recipe()
    assert recipe["data"] and recipe == SMALL.recipe() and "resources" not in recipe
    assert CodeInstructConfig(calibrated=False).recipe() != CodeInstructConfig().recipe()


def test_smollm_writes_tasks_with_solutions(smollm: Artifact, run_stage: Callable[..., Artifact]) -> None:
    config = CodeInstructConfig(colonies=1, generations=1, population=3, fit_share=1.0, code_max_tokens=40, seed=3)
    made = run_stage(code_instruct.run, config, generator=smollm)
    born = made.rows()[len(SEEDS) :]
    assert born, made.read_json("rejected.json")
    for row in born:
        tree = parsed(code_block(row["messages"][1]["content"]) or "")
        assert tree and any(isinstance(node, ast.FunctionDef) for node in tree.body)
    assert made.manifest().metrics["verdict_mass"] > 0.8
