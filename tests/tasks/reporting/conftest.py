"""A whole turn in a real store: rows, judges, mix, pairs and verdict by the real stages, training by its metrics."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from infra.artifacts import Artifact, fingerprint_of, input_fingerprints
from infra.output import Outcome, Output
from infra.storage import Storage
from models.objectives import PreferenceSettings
from models.packing import Document, Pair
from tasks import gate, judge, mix, preferences, report
from tasks.configs.gate import GateConfig
from tasks.configs.judging import JudgingConfig, PreferencesConfig
from tasks.configs.mix import MixConfig
from tasks.configs.report import ReportConfig
from tasks.evaluate import ANSWER, metrics_of, table_of
from tasks.judges.llm import verdict_of
from tasks.preference_tuning import gap_metrics
from tasks.rows import ATTRIBUTES, DIALOGUE, PROMPT, RESPONSE, TEXT, make_row

EVIL = '<script>alert("owned")</script><img src="http://evil.example/x.png">'
PROVENANCE = {"source": "test", "synthetic": True, "generator": "a" * 32, "licence": "Apache-2.0"}
FAMILIES = ("instruction", "ordinary", "maths")

Row = dict[str, Any]


@dataclass
class Workshop:
    """Puts artifacts into a store, by hand or by a real stage."""

    store: Storage
    workspace: Path
    made: dict[str, Artifact] = field(default_factory=dict)

    def put(
        self, label: str, stage: str, kind: str = "dataset", *, fill: Callable[[Output], Any] = lambda output: None,
        outcome: Outcome | None = None, recipe: Mapping[str, Any] | None = None, **inputs: Any,
    ) -> Artifact:  # fmt: skip
        recipe = {"label": label, **(recipe or {})}
        artifact, output = self._begin(stage, kind, 1, recipe, inputs)
        fill(output)
        return self._end(label, output, outcome or Outcome(), recipe, inputs, artifact)

    def make(self, label: str, stage: Callable[..., Outcome], config: Any, **inputs: Any) -> Artifact:
        artifact, output = self._begin(config.stage, config.kind, config.version, config.recipe(), inputs)
        return self._end(label, output, stage(config, output, **inputs), config.recipe(), inputs, artifact)

    def _begin(self, stage: str, kind: str, version: int, recipe: Any, inputs: Any) -> tuple[Artifact, Output]:
        fingerprint = fingerprint_of(stage, version, recipe, input_fingerprints(inputs))
        artifact = Artifact(stage=stage, kind=kind, fingerprint=fingerprint, store=self.store.uri)
        return artifact, Output(artifact, self.store, lambda event: None, self.workspace)

    def _end(self, label: str, output: Output, outcome: Outcome, recipe: Any, inputs: Any, artifact: Any) -> Artifact:
        self.made[label] = output.commit(
            outcome, recipe=recipe, inputs=inputs, version=1, label=label, device="cpu test x1", wall_s=2.5,
            code_version="abc123",
        )  # fmt: skip
        return self.made[label]


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def rows_into(rows: list[Row], schema: Any) -> Callable[[Output], None]:
    return lambda output: output.write_shard(0, rows, schema)


def answers(half: str, right: Callable[[int], bool], voice: str, count: int = 300) -> list[Row]:
    """ANSWER rows: checked items in three families, then a few open ones with rewards."""
    rows = []
    for number in range(count + 8):
        opened = number >= count
        values = {
            "item_id": f"{number:032x}", "half": half, "finish_reason": "stop",
            "family": "open" if opened else FAMILIES[number % 3], "key": f"kind{number % 12}/{number}",
            "messages": ask(f"Question {number}? {EVIL if number < 30 else ''}"),
            "answer": f"{voice} {number} {EVIL if number < 30 else ''}",
            "passed": None if opened else right(number), "reward": 0.1 * (number % 7) if opened else None,
            "baseline_reward": 0.2 if opened and half == "dev" else None, **PROVENANCE,
        }  # fmt: skip
        rows.append(make_row(ANSWER, values, [voice, half, number]))
    return rows


def responses() -> list[Row]:
    """Per prompt three scored answers; two of three prompts can be checked."""
    rows = []
    for prompt in range(30):
        for sample in range(3):
            words = " ".join(f"word{prompt + sample + i}" for i in range(6 + sample))
            values = {
                "prompt_id": f"prompt{prompt}", "prompt": ask(f"Say something about {prompt}"),
                "family": FAMILIES[prompt % 3] if prompt % 3 else "open", "topic": "tea", "response": words,
                "responder": "greedy", "sample": sample, "aid": "shots" if sample == 2 and prompt % 3 else "",
                "finish_reason": "stop", "passed": (sample == 2) if prompt % 3 else None,
                "reward": float((prompt * 7 + sample * 3) % 5), **dict.fromkeys(ATTRIBUTES, 2.0), **PROVENANCE,
            }  # fmt: skip
            rows.append(make_row(RESPONSE, values, [prompt, sample]))
    return rows


def judged(output: Output, rows: list[Row], *, llm: bool) -> None:
    """What tasks/judge.py writes, its numbers by its own functions; the LLM's verdicts are made up, a third flips."""
    config = JudgingConfig()
    opened, checked = judge.pairs_of(rows, 0)
    judges = {name: kind(config, lambda: pytest.fail("no engine")) for name, kind in judge.JUDGES.items()}
    exact = {name: one for name, one in judges.items() if not one.costly}
    verdicts = judge.compare(config, exact, opened, checked)
    count = len(opened) if llm else 0
    verdicts["llm"] = {i: verdict_of((-0.3, -1.5), (-1.2, -0.5) if i % 3 else (-0.4, -1.3)) for i in range(count)}
    pairs = [*opened, *checked]
    output.write_json("judges.json", judge.report_of(judges, pairs, verdicts))
    output.write_json("llm_verdicts.json", judge.verdict_rows(pairs, verdicts["llm"]))
    output.write_shard(0, rows, RESPONSE)


def train(workshop: Workshop, label: str, stage: str, losses: list[float], **inputs: Artifact) -> Artifact:
    """A checkpoint with curves and the metrics that its stage would write."""
    objective = "dpo" if label == "dpo" else "rpo"

    def curves(output: Output) -> None:
        for step, loss in enumerate(losses, 1):
            values = {"loss": loss, "grad_norm": 1.0}
            if stage == "preference-tuning":
                values |= {"accuracy": 0.5 + 0.4 * step / len(losses), "policy_gap": 0.05 * step,
                           "chosen_shift": -0.1 * step, "rejected_shift": -0.3 * step}  # fmt: skip
                values |= {"reward_gap": 2.0} if objective == "rpo" else {}
            output.log_metrics(step, values)

    metrics = {"mean_loss": 1.5, "final_loss": 0.5, "steps": len(losses), "skipped_steps": 1, "tokens": 12345,
               "tokens_per_s": 987.6, "peak_memory_gib": 1.25, "examples": 40}  # fmt: skip
    if stage == "preference-tuning":
        document = Document.of((1, 2, 3))
        pairs = [Pair(document, document, 0.0, 0.0, reward, 0.0) for reward in (1.0, 2.0, -3.0)]
        metrics |= gap_metrics(PreferenceSettings(objective, beta=0.2, eta=0.8), pairs)
        metrics |= {"final_policy_gap": 0.4, "final_accuracy": 0.9, "pairs": 3}
    return workshop.put(
        label, stage, "checkpoint", fill=curves, recipe={"learning_rate": 2e-4, "eta": "auto"},
        outcome=Outcome(
            metrics=metrics, result={"objective": objective, "licences": ["Apache-2.0"]},
            counts={"in": 42, "kept": 40, "dropped:over 128 tokens": 2},
        ), **inputs,
    )  # fmt: skip


def examine(workshop: Workshop, label: str, rows: list[Row], **inputs: Artifact) -> Artifact:
    outcome = Outcome(metrics=metrics_of(rows), result={"half": rows[0]["half"], "families": table_of(rows)})
    return workshop.put(label, "evaluate", "evaluation", fill=rows_into(rows, ANSWER), outcome=outcome, **inputs)


def foundations(workshop: Workshop) -> None:
    documents = [make_row(TEXT, {"text": "a document", **PROVENANCE}, "a document")]
    texts = workshop.put("documents", "world-documents", fill=rows_into(documents, TEXT))
    base = train(workshop, "pretrain", "pretrain", [4 - 0.1 * i for i in range(20)], texts=texts)
    workshop.made["base"] = train(workshop, "continued", "pretrain", [2.0, 1.9, 1.8], base=base, texts=texts)
    workshop.made["teacher"] = train(workshop, "teacher", "sft", [1.0, 0.9], base=base)
    workshop.put("items", "evaluation_set", recipe={"gate": {"instruction": 100, "maths": 50, "open": 8}})
    metrics = {"pair_accuracy": 0.731, "pairs": 52.0, "mse": 0.61, "training_rows": 380.0, "validation_rows": 20.0}
    metrics |= {f"pearson_{name}": 0.5 for name in ATTRIBUTES[:4]}
    fit = Outcome(metrics=metrics, result={"mode": "ridge"})
    workshop.put("reward model", "reward-model", "checkpoint", outcome=fit, base=workshop.made["base"])


def write_data(workshop: Workshop, *, llm: bool) -> dict[str, Artifact]:
    made = workshop.made
    asked = [make_row(PROMPT, {"family": "open", "topic": "tea", "messages": ask(f"{EVIL} {i}"), **PROVENANCE}, i)
             for i in range(9)]  # fmt: skip
    counts = {"in": 20, "kept": 12, "dropped:not_finished": 5, "dropped:repeated": 3}
    topics = workshop.put("topics", "topics", outcome=Outcome(rows=12, counts=counts), generator=made["teacher"])
    drafts = workshop.put("prompts", "prompts", fill=rows_into(asked, PROMPT), topics=topics,
                          outcome=Outcome(counts={"in": 40, "kept": 9, "dropped:not_a_question": 31}))  # fmt: skip
    cleaned = Outcome(counts={"in": 9, "kept": 7, "dropped:contaminated": 2})
    clean = workshop.put("clean prompts", "deduplicate", fill=rows_into(asked[:7], PROMPT), rows=drafts,
                         evaluation_set=made["items"], outcome=cleaned)  # fmt: skip
    talks = [
        make_row(DIALOGUE, {"prompt_id": "p", "family": "open", "reward": 1.5, **PROVENANCE,
                            "messages": [*ask(f"Hello {i}"), {"role": "assistant", "content": f"Hi {i}\n{EVIL}"}]}, i)
        for i in range(12)
    ]  # fmt: skip
    dialogues = workshop.put("dialogues", "dialogues", fill=rows_into(talks, DIALOGUE), prompts=clean,
                             generator=made["teacher"], reward_model=made["reward model"])  # fmt: skip
    table = {"family:maths": {"prompts": 10, "answers": 30, "passed": 6, "solved_plain": 4, "solved": 9}}
    rows = responses()
    answered = workshop.put("responses", "responses", fill=rows_into(rows, RESPONSE), prompts=clean,
                            recipe={"salt": "12ab34cd"},
                            outcome=Outcome(result={"pass_rates": table}))  # fmt: skip
    scored = workshop.put("judging", "judge", fill=lambda output: judged(output, rows, llm=llm), responses=answered)
    sets = {
        f"{name} pairs": workshop.make(
            f"{name} pairs", preferences.run, PreferencesConfig(objective=name), judged=scored
        )
        for name in ("dpo", "rpo")
    }
    plain = MixConfig(code_share=0.0)
    general = workshop.make("general mix", mix.run, plain, dialogues=dialogues, judged=scored)
    return {"prompts": clean, "dialogues": dialogues, "responses": answered, "general mix": general, **sets}


@dataclass(frozen=True)
class Made:
    """A whole turn; `html` runs the report's stage on it, with changes to settings or inputs."""

    config: ReportConfig
    inputs: dict[str, Any]
    workshop: Workshop

    def html(self, inputs: Mapping[str, Any] | None = None, **settings: Any) -> str:
        config = self.config.model_copy(update=settings)
        page = self.workshop.make("report", report.run, config, **{**self.inputs, **(inputs or {})})
        return page.read_bytes("report.html").decode()


@pytest.fixture(scope="session")
def turn(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Made]:
    """`turn(right)` makes all of an iteration, once; `right(number)` says whether the candidate answers an item."""
    made: dict[str, Made] = {}

    def make(name: str = "better", *, llm: bool = True, min_items: int = 200) -> Made:
        key = f"{name} {llm} {min_items}"
        if key not in made:
            folder = tmp_path_factory.mktemp("turn")
            workshop = Workshop(Storage.open(folder / "store"), folder)
            made[key] = make_turn(workshop, CANDIDATES[name], llm=llm, min_items=min_items)
        return made[key]

    return make


def generator_is_right(number: int) -> bool:
    return number % 2 == 0 or number % 5 == 1


CANDIDATES: dict[str, Callable[[int], bool]] = {
    "better": lambda number: (generator_is_right(number) and number % 20 != 0) or number % 7 < 4,
    "equal": lambda number: not generator_is_right(number) if number % 10 in (2, 3) else generator_is_right(number),
    "worse at maths": lambda number: number % 3 != 2,
}
"""Which items a candidate answers right."""


def make_turn(workshop: Workshop, right: Callable[[int], bool], *, llm: bool, min_items: int) -> Made:
    foundations(workshop)
    made, data = workshop.made, write_data(workshop, llm=llm)
    ours = {"evaluation_set": made["items"], "reward_model": made["reward model"]}
    dev = answers("dev", generator_is_right, "old", 60)
    baseline = examine(workshop, "generator dev", dev, model=made["teacher"], **ours)
    models, evaluations, policy = {}, {}, made["base"]
    plan = {"general sft": "general mix", "dpo": "dpo pairs", "rpo 1": "rpo pairs"}
    for place, (label, rows) in enumerate(plan.items()):
        stage = "preference-tuning" if place else "sft"
        inputs = {"policy" if place else "base": policy, "pairs" if place else "dialogues": data[rows]}
        losses = [2 * math.exp(-i / 20) + 0.1 * place for i in range(60)]
        models[label] = policy = train(workshop, label, stage, losses, **inputs)
        dev = answers("dev", lambda number, place=place: number % (4, 9, 6)[place] != 0, label, 60)
        evaluations[label] = examine(workshop, f"{label} dev", dev, model=policy, baseline=baseline, **ours)
    exams = (
        examine(workshop, "generator exam", answers("gate", generator_is_right, "old"), model=made["teacher"], **ours),
        examine(workshop, "candidate exam", answers("gate", right, "new"), model=policy, **ours),
    )
    control = examine(workshop, "control exam", answers("gate", lambda n: n % 3 == 0, "control"), **ours)
    rule = GateConfig(resamples=2000, min_items=min_items, cluster_by="key")
    verdict = workshop.make("gate", gate.run, rule, candidate=exams[1], generator=exams[0])
    config = ReportConfig(
        project="tea", lineage="l" * 8, number=1, preset="tiny", notes=("no code phase: <b>too small</b>",),
        steps=tuple(models), data=tuple(data), controls=("human only",),
        reproduce="ratchet run --preset tiny --set seed=3",
        timeline=({"job": "prompts", "seconds": 12.5, "steps": ["topics", "prompts", "clean prompts"]},
                  {"job": "general sft", "seconds": 90.0, "steps": ["general sft", "general sft dev"]}),
        wall_s=240.0, links={"MLflow run": "http://127.0.0.1:5000/#/run", "bad": "javascript:alert(1)"},
    )  # fmt: skip
    inputs = {
        "verdict": verdict, "exams": exams, "baseline": baseline, "data": tuple(data.values()),
        "models": tuple(models.values()), "evaluations": tuple(evaluations.values()), "controls": (control,),
    }  # fmt: skip
    return Made(config, inputs, workshop)
