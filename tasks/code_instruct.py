"""Genetic Instruct: coding tasks with solutions, bred from a few hand-written ones (paper, section 3.3.1).

    seeds ─→ pool ─→ parents ─→ mutation │ crossover ─→ task ─→ solution ─→ syntax tree ─→ judge ─→ the fittest
              ↑                                                                                        │
              └──────────────────────────── next generation's parents ─────────────────────────────────┘

Colonies do this each on its own, all in the same engine calls; at the end the best of all are taken, without
duplicates. No solution is ever run: its syntax tree is looked at, and the judge reads it.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import yaml

from infra.artifacts import Artifact
from infra.output import Outcome, Output
from models.engine import SamplingParams
from tasks import python_code
from tasks.colonies import Colonies, Member, draw_parents, fittest, measure, register
from tasks.configs.code_instruct import CodeInstructConfig
from tasks.configs.mix import DeduplicateConfig
from tasks.engines.abilities import NoLogprobs
from tasks.generation import Ask, Writer, licence_of, open_engine
from tasks.judges.verdict import YesNo, verdicts
from tasks.near_duplicates import NearDuplicates
from tasks.prompts.calls import answer, compose
from tasks.prompts.quality import flaw
from tasks.rows import DIALOGUE, make_row, row_id, row_seed
from tasks.selection import Row, joined_licence
from tasks.shingles import words_of
from tasks.tallies import told

TEMPLATES = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
SEEDS = yaml.safe_load((Path(__file__).parent / "code_seeds.yaml").read_text(encoding="utf-8"))
LICENCE = "Apache-2.0"
"""Of the seeds, which are part of the project."""
FAMILY = "code"
_FIELD = re.compile(r"\{\w+\}")


@dataclass
class Child:
    """One in the making."""

    name: str
    """Colony, generation and number: seeds its draws and its answers."""
    colony: int
    parents: list[Member]
    operation: str
    """"crossover", or "mutate:" and the template's name."""
    opening: str
    rng: Random
    task: str = ""
    code: str = ""
    log_odds: float = 0.0
    mass: float = 0.0
    fault: str = ""
    """Why it is dropped."""

    @property
    def answer(self) -> str:
        return fenced(self.code)


def run(config: CodeInstructConfig, output: Output, generator: Artifact) -> Outcome:
    """Dialogue rows of family "code": the seeds, then up to `target` generated ones, the fittest first.

    A generator that writes no usable child leaves the seeds alone: the counts and the log say so.
    """
    writer = Writer(open_engine(generator, config.resources), output)
    colonies = Colonies.resumed(output, seed_members(), config.colonies)
    breeder = Breeder(config, writer, generator)
    per_generation = config.colonies * config.population
    total = config.generations * per_generation
    while colonies.generation < config.generations:
        done = colonies.generation * per_generation
        writer.begin(done, done + per_generation, total)
        breeder.breed(colonies)
        colonies.save(output)
    output.progress(total, total, "rows")
    kept, lost = select(config, colonies)
    rows = [member.row for member in (*colonies.seeds, *kept)]
    for shard, start in enumerate(range(0, len(rows), config.shard_rows)):
        output.write_shard(shard, rows[start : start + config.shard_rows], DIALOGUE)
    output.write_json("rejected.json", colonies.rejected)
    output.write_json("colonies.json", register(colonies, kept))
    counts = colonies.counts + lost + Counter({"in": len(colonies.seeds), "kept": len(rows)})
    output.say(f"code instruct: {len(kept)} generated rows beside {len(colonies.seeds)} seeds; {told(counts)}")
    return Outcome(
        rows=len(rows),
        counts=dict(counts),
        metrics=(writer.metrics() if writer.tokens else {}) | measure(colonies, kept),
        result={"generated": len(kept), "licences": sorted({row["licence"] for row in rows})},
    )


def seed_members() -> list[Member]:
    """The hand-written tasks with their solutions, as rows."""
    return [
        Member(_row(seed["task"], fenced(seed["code"]), (), f"{FAMILY}_instruct/seed", "", LICENCE)) for seed in SEEDS
    ]


def fenced(code: str) -> str:
    return f"```python\n{code.strip()}\n```"


class Breeder:
    """Raises one generation of all colonies at a time: three engine calls for tasks, solutions and verdicts."""

    def __init__(self, config: CodeInstructConfig, writer: Writer, generator: Artifact) -> None:
        self.config, self.writer = config, writer
        self.generator, self.licence = generator.fingerprint, licence_of(generator)

    def breed(self, colonies: Colonies) -> None:
        """The fittest children join their colony; every other one is counted and kept with its reason."""
        children = [child for colony in range(len(colonies.born)) for child in self.conceive(colonies, colony)]
        self._write_tasks(children, colonies)
        self._write_solutions([child for child in children if not child.fault])
        self._judge([child for child in children if not child.fault])
        colonies.generation += 1
        for colony, born in enumerate(colonies.born):
            born += self._survivors(children, colony, colonies.generation)
        colonies.counts["in"] += len(children)
        for child in children:
            if child.fault:
                colonies.counts[f"dropped:{child.fault}"] += 1
                colonies.rejected.append({"reason": child.fault, "operation": child.operation, "task": child.task,
                                          "code": child.code})  # fmt: skip

    def conceive(self, colonies: Colonies, colony: int) -> list[Child]:
        """A colony's children before anything of them is written: parents, operation, opening words."""
        config, place = self.config, f"{colony}/{colonies.generation}"
        names = [f"{place}/{number}" for number in range(config.population)]
        rngs = [Random(self._seed(name)) for name in names]
        sizes = [config.crossover_parents if rng.random() < config.crossover_share else 1 for rng in rngs]
        parents = draw_parents(colonies.pool(colony), sizes, Random(self._seed(place)))
        children = []
        for name, rng, mine in zip(names, rngs, parents, strict=True):
            operation = "crossover" if len(mine) > 1 else f"mutate:{rng.choice(sorted(TEMPLATES['mutate']))}"
            openings = _template(operation).get("openings", [""])
            children.append(Child(name, colony, mine, operation, rng.choice(openings), rng))
        return children

    def _write_tasks(self, children: Sequence[Child], colonies: Colonies) -> None:
        config = self.config
        params = SamplingParams(temperature=config.instruction_temperature, top_p=config.instruction_top_p,
                                max_tokens=config.instruction_max_tokens)  # fmt: skip
        known = [known_tasks(config, colonies.pool(colony)) for colony in range(len(colonies.born))]
        answers = answer(self.writer, [task_ask(child, params) for child in children], (0.0, 0.3))
        for child, said in zip(children, answers, strict=True):
            child.task = said.text
            child.fault = task_fault(child, said.finished, known[child.colony])

    def _write_solutions(self, children: Sequence[Child]) -> None:
        config = self.config
        params = SamplingParams(temperature=config.code_temperature, top_p=config.code_top_p,
                                max_tokens=config.code_max_tokens)  # fmt: skip
        answers = answer(self.writer, [solution_ask(child, params) for child in children], (0.3, 0.9))
        for child, said in zip(children, answers, strict=True):
            child.code, child.fault = solution_of(said.text, said.finished, child.parents)

    def _judge(self, children: Sequence[Child]) -> None:
        """The log-odds of a pass; calibrated, how far they rise above those of an empty solution.

        Where the model tells no log-probabilities nobody can say who is fit, and no child is kept.
        """
        try:
            given = self._verdicts([(child.task, child.answer) for child in children])
        except NoLogprobs as error:
            self.writer.output.say(f"code instruct: the judge has no opinion, so no child is kept: {error}")
            for child in children:
                child.fault = "not_judged"
            return
        empty = TEMPLATES["judge"]["empty"]
        plain = self._verdicts([(child.task, empty) for child in children]) if self.config.calibrated else given
        for child, verdict, other in zip(children, given, plain, strict=True):
            if verdict is None or other is None:
                child.fault = "too_long"
                continue
            child.log_odds = verdict.log_odds - (other.log_odds if self.config.calibrated else 0.0)
            child.mass = verdict.mass

    def _verdicts(self, solutions: Sequence[tuple[str, str]]) -> list[YesNo | None]:
        template = TEMPLATES["judge"]
        asks = [compose(template, SamplingParams(), "", task=task, answer=answer) for task, answer in solutions]
        with self.writer.at_work():
            return verdicts(self.writer.engine, [ask.messages for ask in asks], template["verdicts"])

    def _survivors(self, children: Sequence[Child], colony: int, generation: int) -> list[Member]:
        mine = [child for child in children if child.colony == colony and not child.fault]
        members = [self._member(child, generation) for child in mine]
        chosen = {member.id for member in fittest(members, self.config.fit_share)}
        for child, member in zip(mine, members, strict=True):
            child.fault = "" if member.id in chosen else "unfit"
        return [member for member in members if member.id in chosen]

    def _member(self, child: Child, generation: int) -> Member:
        licence = joined_licence([self.licence, *(parent.row["licence"] for parent in child.parents)])
        parents = [parent.id for parent in child.parents]
        row = _row(child.task, child.answer, parents, f"{FAMILY}_instruct/{child.operation}", self.generator, licence)
        return Member(row, child.log_odds, child.mass, child.colony, generation)

    def _seed(self, place: str) -> int:
        return row_seed(self.writer.output.fingerprint, place)


def task_ask(child: Child, params: SamplingParams) -> Ask:
    template = _template(child.operation)
    if "pick" in template:
        template = {**template, "shots": child.rng.sample(template["shots"], template["pick"])}
    task = child.parents[0].task
    first = task.split(". ")[0].removesuffix(".")
    tasks = "\n".join(f"{number}. {parent.task}" for number, parent in enumerate(child.parents, 1))
    opening = child.opening.format(first=first)
    return compose(template, params, f"{child.name}/task", task=task, tasks=tasks, first=first, opening=opening)


def task_fault(child: Child, finished: bool, known: NearDuplicates) -> str:
    """Why a task is not worth a solution, "" where it is; it is then known."""
    words = words_of(child.task)
    fault = "task_cut_off" if not finished else flaw(child.task)
    demands = [part.strip() for part in _FIELD.split(_template(child.operation)["user"])]
    if not fault and any(demand in child.task for demand in demands if " " in demand):
        fault = "repeats_the_request"
    if not fault and any(words == words_of(parent.task) for parent in child.parents):
        fault = "no_change"
    if not fault and known.has_similar(words):
        fault = "near_duplicate"
    if not fault:
        known.add(words)
    return fault


def solution_ask(child: Child, params: SamplingParams) -> Ask:
    shots = [[parent.task, parent.answer] for parent in child.parents]
    return compose({**TEMPLATES["solve"], "shots": shots}, params, f"{child.name}/solution", task=child.task)


def solution_of(text: str, finished: bool, parents: Iterable[Member]) -> tuple[str, str]:
    """The code of an answer, and why it is no solution, "" where that is not seen."""
    code = python_code.code_block(text)
    if code is None:
        return "", "no_code_block"
    fault = python_code.fault(code) if finished else "code_cut_off"
    if not fault:
        form = python_code.skeleton(code)
        if any(form == python_code.skeleton(python_code.code_block(parent.answer) or "") for parent in parents):
            return code, "parents_solution"
    return code, fault


def select(config: CodeInstructConfig, colonies: Colonies) -> tuple[list[Member], Counter[str]]:
    """The fittest of all colonies without duplicates, best first, and counts of the others by reason."""
    everyone = [member for born in colonies.born for member in born]
    known = known_tasks(config, colonies.seeds)
    kept: dict[tuple[str, ...], Member] = {}
    lost: Counter[str] = Counter()
    for member in sorted(everyone, key=lambda member: (-(member.fitness or 0.0), member.id)):
        words = tuple(words_of(member.task))
        if words in kept:
            lost["dropped:equal"] += 1
        elif known.has_similar(words):
            lost["dropped:near_duplicate"] += 1
        elif len(kept) == config.target:
            lost["dropped:over_target"] += 1
        else:
            kept[words] = member
            known.add(words)
    return [*kept.values()], lost


def _template(operation: str) -> dict[str, Any]:
    kind, _, name = operation.partition(":")
    return TEMPLATES[kind][name] if name else TEMPLATES[kind]


def known_tasks(config: CodeInstructConfig, members: Iterable[Member]) -> NearDuplicates:
    """The tasks that nobody needs again: these members' and the templates' own."""
    known = NearDuplicates(DeduplicateConfig(similarity=config.similarity))
    templates = [*TEMPLATES["mutate"].values(), TEMPLATES["crossover"]]
    shown = [example for template in templates for _, example in template["shots"]]
    for task in [*shown, *(member.task for member in members)]:
        known.add(words_of(task))
    return known


def _row(task: str, solution: str, parents: Iterable[str], source: str, generator: str, licence: str) -> Row:
    messages = [{"role": "user", "content": task}, {"role": "assistant", "content": solution}]
    values = {
        "prompt_id": row_id(messages[:1]),
        "family": FAMILY,
        "messages": messages,
        "source": source,
        "synthetic": bool(generator),
        "generator": generator,
        "licence": licence,
    }
    return make_row(DIALOGUE, values, messages, parents)
