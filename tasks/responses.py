"""Several answers to each prompt from several models or settings; ground truth says which pass, aids help the rest.

    plain answers → ground truth → prompts without a good answer → repair │ few_shot │ prefill → ground truth

The model's own failures stay as rows: they are the rejected sides of preference pairs.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.artifacts import Artifact
from infra.errors import EmptyDataset, InputError
from infra.output import Outcome, Output
from models.engine import SamplingParams
from tasks.aids import Bench, Case, Example, Helped, help_out, subject
from tasks.answer_checks import runs_in_circles
from tasks.configs.responses import Aid, Responder, ResponsesConfig
from tasks.generation import Ask, Writer, licence_of, metrics_of, open_engine
from tasks.judges.ground_truth import verify
from tasks.rows import RESPONSE, make_row
from tasks.selection import Row, by_family, draw, joined_licence, verifiable
from tasks.tallies import Tallies, told

PLAIN_SHARE = 0.8
"""Of a shard's progress; the rest is the aids'."""


def run(config: ResponsesConfig, output: Output, *, prompts: Artifact, **models: Artifact) -> Outcome:
    """`models` are the responders' models by name.

    Raises InputError for a responder whose model is no input, EmptyDataset where no prompt got an answer.
    """
    unknown = sorted({one.model for one in config.responders} - models.keys())
    if unknown:
        raise InputError(f"responders name the models {unknown}", f"the inputs are {sorted(models)}")
    chosen = choose(config, prompts.rows())
    answering, tallies = Answering(config, output, models), Tallies(output)
    for number, start in enumerate(range(0, len(chosen), config.shard_rows)):
        shard = chosen[start : start + config.shard_rows]
        answering.begin(start, start + len(shard), len(chosen))
        if output.has_shard(number):
            continue
        rows, counts = answering.answer(shard)
        tallies.put(number, counts | measure(shard, rows))
        output.write_shard(number, rows, RESPONSE)
    output.progress(len(chosen), len(chosen), "prompts")
    total = tallies.total()
    if not total["kept"]:
        raise EmptyDataset(
            f"no answers to {len(chosen)} prompts: {told(total)}",
            "check that the prompts stage kept rows and that the models' context holds them",
        )
    table = summary(total)
    output.say(f"responses: {told({name: count for name, count in total.items() if '|' not in name})}")
    return Outcome(
        rows=total["kept"],
        counts={name: count for name, count in total.items() if "|" not in name},
        metrics=_rates(table) | answering.metrics(),
        result={"pass_rates": table},
    )


def choose(config: ResponsesConfig, rows: Sequence[Row]) -> list[Row]:
    """The prompts to answer, families taking turns."""
    limit = config.max_per_family or len(rows)
    kept = [row for members in by_family(rows).values() for row in draw(members, config.seed, limit)]
    return draw(kept, config.seed, len(kept))


@dataclass(frozen=True)
class Author:
    """A model with what its rows carry."""

    writer: Writer
    fingerprint: str
    licence: str


class Answering:
    """The responders, one engine call per model for all their answers to a shard."""

    def __init__(self, config: ResponsesConfig, output: Output, models: Mapping[str, Artifact]) -> None:
        self.config = config
        authors: dict[str, Author] = {}
        for responder in config.responders:
            model = models[responder.model]
            if model.fingerprint not in authors:
                writer = Writer(open_engine(model, config.resources), output)
                authors[model.fingerprint] = Author(writer, model.fingerprint, licence_of(model))
        self.authors = authors
        self.author_of = {one.label: authors[models[one.model].fingerprint] for one in config.responders}

    def begin(self, done: int, end: int, total: int) -> None:
        for author in self.authors.values():
            author.writer.begin(done, end, total)

    def answer(self, prompts: Sequence[Row]) -> tuple[list[Row], Counter[str]]:
        """All rows of a shard in the order of its prompts, and counts of what happened."""
        counts = Counter({"in": len(prompts)})
        plain = self._plain(prompts, counts)
        aided = self._aided(prompts, plain, counts)
        rows = [row for prompt in prompts for row in (*plain[prompt["id"]], *aided.get(prompt["id"], ()))]
        counts["kept"] = len(rows)
        return rows, counts

    def metrics(self) -> dict[str, float]:
        """Of the responders' engines together."""
        return metrics_of([author.writer for author in self.authors.values()])

    def _plain(self, prompts: Sequence[Row], counts: Counter[str]) -> dict[str, list[Row]]:
        rows: dict[str, list[Row]] = {prompt["id"]: [] for prompt in prompts}
        for author in self.authors.values():
            jobs = [
                (prompt, responder) for prompt in prompts for responder in self.config.responders
                if self.author_of[responder.label] is author and _samples(responder, prompt)
            ]  # fmt: skip
            asks = [_ask(prompt, responder) for prompt, responder in jobs]
            results = author.writer.write(asks, (0.0, PLAIN_SHARE))
            for (prompt, responder), result in zip(jobs, results, strict=True):
                if result.error:
                    counts["dropped:too_long"] += len(result.outputs)
                    continue
                for sample, one in enumerate(result.outputs):
                    if not one.text.strip():
                        counts["dropped:empty"] += 1
                        continue
                    values = {"responder": responder.label, "sample": sample, "aid": "",
                              "response": one.text.strip(), "finish_reason": one.finish_reason}  # fmt: skip
                    rows[prompt["id"]].append(_row(prompt, author, values))
        return rows

    def _aided(
        self, prompts: Sequence[Row], plain: Mapping[str, list[Row]], counts: Counter[str]
    ) -> dict[str, list[Row]]:
        """The first responder's model is helped where no plain answer can be learnt from."""
        first = self.config.responders[0]
        author = self.author_of[first.label]
        solved: dict[str, list[Example]] = {}
        cases = []
        for prompt in filter(verifiable, prompts):
            own = plain[prompt["id"]]
            good = [Example(prompt, row["response"]) for row in own if teachable(row)]
            solved.setdefault(subject(prompt), []).extend(good[:1])
            if not good:
                cases.append(Case(prompt, [row for row in own if row["generator"] == author.fingerprint]))
        found = help_out(self.config.aids, Bench(author.writer, _params(first, 1), self.config.shots, solved), cases)
        counts.update(f"aided:{aid}" for aid, _ in found.values())
        counts.update(f"unsolved:{case.prompt['family']}" for case in cases if case.prompt["id"] not in found)
        by_id = {case.prompt["id"]: case.prompt for case in cases}
        return {key: [_aided_row(by_id[key], author, first.label, *helped)] for key, helped in found.items()}


def teachable(row: Row) -> bool:
    """Whether an answer passed, came to its end by itself and does not run in circles."""
    return bool(row["passed"]) and row["finish_reason"] == "stop" and not runs_in_circles(row["response"])


def measure(prompts: Sequence[Row], rows: Sequence[Row]) -> Counter[str]:
    """Tallies "<family or kind>|<what>" over the verifiable prompts of a shard."""
    answers: dict[str, list[Row]] = {}
    for row in rows:
        answers.setdefault(row["prompt_id"], []).append(row)
    counts: Counter[str] = Counter()
    for prompt in filter(verifiable, prompts):
        own = [row for row in answers.get(prompt["id"], []) if not row["aid"]]
        found = {
            "prompts": 1,
            "answers": len(own),
            "passed": sum(bool(row["passed"]) for row in own),
            "solved_plain": int(any(teachable(row) for row in own)),
            "solved": int(any(teachable(row) or row["aid"] for row in answers.get(prompt["id"], []))),
        }
        for name in (f"family:{prompt['family']}", f"kind:{subject(prompt)}"):
            counts.update({f"{name}|{what}": count for what, count in found.items()})
    return counts


def summary(total: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """The tallies as a table: row "family:…" or "kind:…", column what was counted."""
    table: dict[str, dict[str, int]] = {}
    columns = ("prompts", "answers", "passed", "solved_plain", "solved")
    for name, count in sorted(total.items()):
        if "|" in name:
            row, column = name.split("|")
            table.setdefault(row, dict.fromkeys(columns, 0))[column] = count
    return table


def _rates(table: Mapping[str, Mapping[str, int]]) -> dict[str, float]:
    """Per family: answers that pass, and prompts with an answer to learn from, without and with aids."""
    rates = {}
    for name, row in table.items():
        kind, _, family = name.partition(":")
        if kind == "family":
            rates[f"pass_rate/{family}"] = row["passed"] / max(1, row["answers"])
            rates[f"solved_plain/{family}"] = row["solved_plain"] / row["prompts"]
            rates[f"solved_aided/{family}"] = row["solved"] / row["prompts"]
    return rates


def _samples(responder: Responder, prompt: Row) -> int:
    return responder.samples if verifiable(prompt) else responder.open_samples


def _params(responder: Responder, samples: int) -> SamplingParams:
    return SamplingParams(
        temperature=responder.temperature, top_p=responder.top_p, top_k=responder.top_k,
        max_tokens=responder.max_tokens, n=samples,
    )  # fmt: skip


def _ask(prompt: Row, responder: Responder) -> Ask:
    params = _params(responder, _samples(responder, prompt))
    return Ask(f"{prompt['id']}/{responder.label}", prompt["messages"], params)


def _aided_row(prompt: Row, author: Author, responder: str, aid: Aid, helped: Helped) -> Row:
    values = {"responder": responder, "sample": 0, "aid": aid,
              "response": helped.text, "finish_reason": helped.finish_reason}  # fmt: skip
    return _row(prompt, author, values, helped.parents)


def _row(prompt: Row, author: Author, values: dict[str, Any], parents: Sequence[str] = ()) -> Row:
    content = [values["responder"], values["aid"], values["sample"], values["response"]]
    shared = {
        "prompt_id": prompt["id"],
        "family": prompt["family"],
        "topic": prompt["topic"],
        "prompt": prompt["messages"],
        "verifier": prompt["verifier"],
        "side": prompt["side"],
        "unsafe": prompt["unsafe"],
        "passed": verify(prompt["verifier"], values["response"]),
        "source": "responses",
        "synthetic": True,
        "generator": author.fingerprint,
        "licence": joined_licence([prompt["licence"], author.licence]),
    }
    return make_row(RESPONSE, shared | values, content, [prompt["id"], *parents])
