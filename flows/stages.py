"""Each function is one Ray job: a heavy stage, or a short chain of light ones. Nothing is computed here.

Artifacts in, artifacts out; every stage keeps its own manifest, so a chain that broke goes on where it stopped.
"""

from flows.execution import Job, job, ray_job
from flows.products import Corpus, Exam, Examined, Foundations, Given, Sets, Trained, Turn
from flows.search import try_all
from infra.artifacts import Artifact
from tasks.configs.endpoint_model import EndpointModelConfig
from tasks.configs.import_model import ImportModelConfig
from tasks.configs.mix import DeduplicateConfig
from tasks.configs.plan import Plan
from tasks.configs.pretraining_plan import Phase, PretrainingPlan
from tasks.configs.report import ReportConfig
from tasks.configs.sources import SourceConfig
from tasks.configs.training import PreferenceTuningConfig, SFTConfig
from tasks.configs.world import TokenizerConfig


@job("{label}")
def import_model(config: ImportModelConfig | EndpointModelConfig, label: str) -> Artifact:
    """Bring a GGUF file or a Hugging Face folder into the store, or the address of a hosted model."""
    with ray_job(label) as stage:
        return stage(label, config)


@Job
def set_exam(plan: Plan) -> Artifact:
    """The evaluation items, written by no generator and split before anything trains."""
    with ray_job("evaluation set") as stage:
        return stage("evaluation set", plan.evaluation_set)


@Job
def read_sources(plan: Plan) -> Given:
    """Public data sets that the user has copies of, and the user's own rows."""
    if not plan.sources:
        return Given()
    found: dict[str, tuple[Artifact, ...]] = {}
    with ray_job("sources") as stage:
        for name, config in plan.sources.items():
            found[config.purpose] = (*found.get(config.purpose, ()), stage(f"source {name}", config))
    return Given(**found)


@Job
def write_corpus(plan: PretrainingPlan, deduplicate: DeduplicateConfig, items: Artifact) -> Corpus:
    """Documents for both phases of pretraining as tokens, the tokenizer, and the human rows (a user's own cleaned).

    Pieces are learnt from the main phase's texts: those of the continued phase may change later on.
    """
    with ray_job("corpus") as stage:

        def texts(label: str, phase: Phase) -> dict[str, Artifact]:
            return {name: stage(f"{label} {name}".strip(), config) for name, config in plan.named(phase).items()}

        def tokens(label: str, rows: dict[str, Artifact]) -> tuple[Artifact, ...]:
            return tuple(
                stage(f"{label} {name}".strip(), plan.tokenize_as(name), texts=found, tokenizer=tokenizer)
                for name, found in rows.items()
            )

        main, continued = texts("documents", "documents"), texts("continued documents", "continued_documents")
        words = isinstance(plan.tokenizer, TokenizerConfig)
        known = (*main.values(), *continued.values()) if words else main.values()
        tokenizer = stage("tokenizer", plan.tokenizer, texts=tuple(dict.fromkeys(known)))
        read = tokens("tokens", main), tokens("continued tokens", continued)
        human = stage("human rows", plan.human_rows)
        if isinstance(plan.human_rows, SourceConfig):
            human = stage("clean human rows", deduplicate, rows=human, evaluation_set=items)
        return Corpus(tokenizer, *read, human)


@Job
def pretrain_main(plan: PretrainingPlan, corpus: Corpus) -> Artifact:
    """Next-token training from fresh weights; its end is the early checkpoint."""
    with ray_job("pretrain") as stage:
        return stage("pretrain", plan.main, tokens=corpus.main, tokenizer=corpus.tokenizer)


@Job
def pretrain_continued(plan: PretrainingPlan, corpus: Corpus, early: Artifact) -> Artifact:
    """The continued phase: from the early checkpoint, by settings and data of its own; its end is the base."""
    with ray_job("continued pretraining") as stage:
        inputs = {"tokens": corpus.continued, "tokenizer": corpus.tokenizer}
        return stage("continued pretraining", plan.continued, base=early, **inputs)


@Job
def align_teacher(plan: PretrainingPlan, early: Artifact, human: Artifact) -> Artifact:
    """The first generator: the early checkpoint with a few human rows."""
    with ray_job("teacher") as stage:
        return stage("teacher", plan.teacher_sft, base=early, dialogues=human)


@Job
def train_reward_model(plan: Plan, base: Artifact, generator: Artifact, labelled: tuple[Artifact, ...]) -> Artifact:
    """Five attributes (HelpSteer2's) from labelled answers, then the regression model on them."""
    with ray_job("reward model") as stage:
        if not labelled:
            writers = {"generator": generator} if plan.attributes_need_generator() else {}
            labelled = (stage("attributes", plan.attributes, **writers),)
        return stage("reward model", plan.reward_model, base=base, attributes=labelled)


@Job
def write_prompts(plan: Plan, generator: Artifact, items: Artifact, given: Given) -> Artifact:
    """Topics and keywords, then every prompt family; with real prompts cleaned of near-duplicates and exam items."""
    with ray_job("prompts") as stage:
        inputs: dict[str, Artifact | tuple[Artifact, ...]] = {"generator": generator}
        if plan.topics is not None:
            inputs["topics"] = stage("topics", plan.topics, **inputs)
        if plan.keywords is not None:
            inputs["keywords"] = stage("keywords", plan.keywords, **inputs, **given.named("python_files"))
        drafts = stage("prompts", plan.prompts, **inputs, **given.named("documents", "openers"))
        clean = stage("clean prompts", plan.deduplicate, rows=(drafts, *given.prompts), evaluation_set=items)
        return clean if plan.split is None else stage("split prompts", plan.split, rows=clean)


@Job
def write_dialogues(plan: Plan, generator: Artifact, prompts: Artifact, reward_model: Artifact) -> Artifact:
    """Conversations in which the generator plays both roles, filtered by reward."""
    with ray_job("dialogues") as stage:
        return stage("dialogues", plan.dialogues, generator=generator, prompts=prompts, reward_model=reward_model)


@Job
def evolve_code(plan: Plan, generator: Artifact) -> Artifact | None:
    """Genetic Instruct: mutate and cross over coding instructions, keep the fit."""
    if plan.code_instruct is None:
        return None
    with ray_job("code instruct") as stage:
        return stage("code instruct", plan.code_instruct, generator=generator)


@Job
def respond(plan: Plan, generator: Artifact, base: Artifact, prompts: Artifact) -> Artifact:
    """Several answers to each prompt from several models or settings."""
    with ray_job("responses") as stage:
        return stage("responses", plan.responses, prompts=prompts, generator=generator, base=base)


@Job
def judge_and_mix(plan: Plan, given: Foundations, generator: Artifact, data: dict[str, Artifact]) -> Sets:
    """The three judges, the pairs for DPO (strict) and RPO (milder), and the two SFT mixes."""
    with ray_job("judging") as stage:
        models = {"reward_model": given.reward_model, "generator": generator}
        judged = stage("judging", plan.judging, responses=data["responses"], **models)
        preferred = {}
        if given.sources.preferences:
            rows, items = given.sources.preferences, given.items
            preferred["given"] = stage("clean preferences", plan.deduplicate, rows=rows, evaluation_set=items)
        dpo = stage("dpo pairs", plan.dpo_pairs, judged=judged, **preferred)
        rpo = stage("rpo pairs", plan.rpo_pairs, judged=judged, **preferred)
        clean = stage("clean dialogues", plan.deduplicate, rows=data["dialogues"], evaluation_set=given.items)
        parts = {"dialogues": clean, "judged": judged}
        if given.human is not None:
            parts["human"] = given.human
        if given.sources.dialogues:
            parts["sources"] = stage(
                "clean sources", plan.deduplicate, rows=given.sources.dialogues, evaluation_set=given.items
            )
        if "code" not in data or plan.code_mix is None:
            return Sets(None, stage("general mix", plan.general_mix, **parts), dpo, rpo)
        evolved = stage("clean code", plan.deduplicate, rows=data["code"], evaluation_set=given.items)
        code = stage("code mix", plan.code_mix, code=evolved)
        return Sets(code, stage("general mix", plan.general_mix, code=evolved, **parts), dpo, rpo)


@Job
def examine_generator(plan: Plan, given: Foundations, generator: Artifact) -> Artifact:
    """The generator on the development half: what every step's win rate is measured against."""
    with ray_job("generator dev") as stage:
        inputs = {"evaluation_set": given.items, "reward_model": given.reward_model}
        return stage("generator dev", plan.dev_exam, model=generator, **inputs)


@job("{phase}")
def supervise(plan: Plan, phase: str, base: Artifact, rows: Artifact, exam: Exam) -> Trained:
    """One phase of supervised fine-tuning, then its development examination; with ranges, the best of a search."""
    with ray_job(phase) as stage:

        def train(label: str, config: SFTConfig) -> Trained:
            model = stage(label, config, base=base, dialogues=rows)
            return Trained(model, exam.dev(stage, label, plan, model))

        search = try_all(stage, plan, phase, plan.sft_phases()[phase], train)
    return search.chosen()


@job("{label}")
def tune(plan: Plan, label: str, policy: Artifact, pairs: Artifact, exam: Exam) -> Trained:
    """One turn of preference tuning, from and anchored to `policy`: reference log-probabilities, DPO or RPO, exam;
    with ranges, the best of a search."""
    objective = plan.preference_tuning[plan.turn_labels().index(label)]
    with ray_job(label) as stage:
        reference = stage(f"{label} reference", plan.reference_logprobs, policy=policy, pairs=pairs)

        def train(name: str, config: PreferenceTuningConfig) -> Trained:
            model = stage(name, config, policy=policy, pairs=pairs, reference=reference)
            return Trained(model, exam.dev(stage, name, plan, model))

        search = try_all(stage, plan, label, objective, train)
    return search.chosen()


@Job
def gate(plan: Plan, candidate: Artifact, generator: Artifact, exam: Exam) -> Examined:
    """Candidate and generator on the sealed half, paired; the verdict."""
    with ray_job("gate") as stage:
        ours = {"evaluation_set": exam.items, "reward_model": exam.reward_model}
        before = stage("generator exam", plan.gate_exam, model=generator, **ours)
        after = stage("candidate exam", plan.gate_exam, model=candidate, baseline=before, **ours)
        return Examined(stage("gate", plan.gate, candidate=after, generator=before), after, before)


@Job
def run_controls(plan: Plan, given: Foundations, exam: Exam, turn_data: dict[str, Artifact]) -> dict[str, Artifact]:
    """What the base becomes without the teacher: with human rows only, and with shuffled teacher answers."""
    if plan.controls is None or given.human is None:
        return {}
    results = {}
    with ray_job("controls") as stage:
        shuffled = stage("shuffled answers", plan.controls.shuffled_mix, dialogues=turn_data["general"])
        for name, rows in (("human only", given.human), ("shuffled teacher", shuffled)):
            model = stage(f"control: {name}", plan.controls.sft, base=given.base, dialogues=rows)
            inputs = {"evaluation_set": exam.items, "reward_model": exam.reward_model}
            results[name] = stage(f"control exam: {name}", plan.gate_exam, model=model, **inputs)
    return results


@Job
def report(config: ReportConfig, turn: Turn) -> Artifact:
    """One self-contained HTML page about the iteration."""
    tables = tuple(step.table for step in turn.steps.values() if step.table is not None)
    searches = {"searches": tables} if tables else {}
    with ray_job("report") as stage:
        return stage(
            "report",
            config,
            verdict=turn.examined.verdict,
            exams=(turn.examined.generator, turn.examined.candidate),
            baseline=turn.baseline,
            data=tuple(turn.data.values()),
            models=tuple(step.model for step in turn.steps.values()),
            evaluations=tuple(step.evaluation for step in turn.steps.values()),
            controls=tuple(turn.controls.values()),
            **searches,
        )
