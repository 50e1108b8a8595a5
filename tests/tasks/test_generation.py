"""Shards written with a real engine: order, batch, restarts and earlier attempts change no row."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from infra.artifacts import Artifact
from infra.errors import InputError
from infra.output import Outcome, Output
from infra.storage import Storage
from models.checkpoint import load_model
from models.engine import Engine, SamplingParams
from tasks.configs.base import Resources, StageConfig
from tasks.generation import Ask, Writer, metrics_of, open_engine, write_shards
from tasks.rows import TEXT, make_row, row_seed

FINGERPRINT = "ab" * 16
WARM = SamplingParams(temperature=1.0, max_tokens=6)


@pytest.fixture(scope="module")
def engine(smollm_folder: Path) -> Engine:
    return Engine(*load_model(smollm_folder), max_rows=8)


def an_output(folder: Path, events: list[dict] | None = None) -> Output:
    artifact = Artifact(stage="made", kind="dataset", fingerprint=FINGERPRINT, store=Storage.open(folder / "store").uri)
    return Output(artifact, Storage.open(folder / "store"), (events if events is not None else []).append, folder)


def an_ask(name: str, params: SamplingParams = WARM) -> Ask:
    return Ask(name, [{"role": "user", "content": f"Say something about {name}."}], params)


def test_an_answer_depends_on_its_ask_alone(engine: Engine, tmp_path: Path) -> None:
    writer = Writer(engine, an_output(tmp_path))
    names = ["rivers", "trains", "bread", "maps"]
    together = [result.text for result in writer.write([an_ask(name) for name in names])]
    backwards = [result.text for result in writer.write([an_ask(name) for name in reversed(names)])]
    alone = [writer.write([an_ask(name)])[0].text for name in names]
    assert together == backwards[::-1] == alone
    same_words = [Ask(name, an_ask("rivers").messages, WARM) for name in ("first", "second", "third")]
    assert len({result.text for result in writer.write(same_words)}) > 1
    direct = engine.generate(
        [[*an_ask("rivers").messages]], SamplingParams(1.0, max_tokens=6, seed=row_seed(FINGERPRINT, "rivers"))
    )
    assert direct[0].text == together[0]
    assert writer.metrics()["generated_tokens"] > 20 and writer.metrics()["tokens_per_s"] > 0


def test_it_tells_how_busy_the_engine_was(engine: Engine, tmp_path: Path) -> None:
    idle, first, second = (Writer(engine, an_output(tmp_path)) for _ in range(3))
    assert idle.metrics() == metrics_of([idle, first]) == {}
    first.write([an_ask("rivers")])
    alone = first.metrics()["engine_busy"]
    time.sleep(first.busy)
    assert alone > 0.9 and 0.3 < first.metrics()["engine_busy"] <= 0.5
    with second.at_work():
        second.engine.generate([[*an_ask("maps").messages]], WARM)
    both = metrics_of([idle, first, second])
    assert first.metrics()["engine_busy"] < both["engine_busy"] < second.metrics()["engine_busy"]
    assert both["generated_tokens"] == first.tokens and second.tokens == 0


def test_prompts_may_be_token_ids_with_seeds_of_their_own(engine: Engine, tmp_path: Path) -> None:
    writer, params = Writer(engine, an_output(tmp_path)), SamplingParams(1.0, max_tokens=6, seed=5)
    token_ids = engine.encode([*an_ask("rivers").messages])
    (found,) = writer.generate([token_ids], [params])
    assert found.text == engine.generate([token_ids], params)[0].text
    assert writer.metrics()["generated_tokens"] == len(found.token_ids) + 1


def test_progress_counts_rows_of_all_shards(engine: Engine, tmp_path: Path) -> None:
    events: list[dict] = []
    output = an_output(tmp_path, events)
    writer = Writer(engine, output)
    write_shards(output, writer, ["a", "b", "c"], 2, TEXT, lambda names: rows(writer, names))
    told = [event for event in events if event["event"] == "progress"]
    assert told[-1]["done"] == told[-1]["total"] == 3 and told[-1]["unit"] == "rows"
    assert [event["done"] for event in told] == sorted(event["done"] for event in told)


def rows(writer: Writer, names: Sequence[str]) -> list[dict[str, Any]]:
    results = writer.write([an_ask(name) for name in names])
    return [make_row(TEXT, {"text": result.text}, [name]) for name, result in zip(names, results, strict=True)]


def test_a_restart_makes_only_what_is_missing_and_the_same_bytes(engine: Engine, tmp_path: Path) -> None:
    names = [f"thing {number}" for number in range(5)]
    made: list[Sequence[str]] = []

    def make(writer: Writer, fail_at: str = "") -> Any:
        def run(shard: Sequence[str]) -> list[dict[str, Any]]:
            if fail_at in shard:
                raise KeyboardInterrupt
            made.append(shard)
            return rows(writer, shard)

        return run

    whole = an_output(tmp_path / "whole")
    writer = Writer(engine, whole)
    write_shards(whole, writer, names, 2, TEXT, make(writer))
    broken = an_output(tmp_path / "broken")
    writer = Writer(engine, broken)
    with pytest.raises(KeyboardInterrupt):
        write_shards(broken, writer, names, 2, TEXT, make(writer, fail_at="thing 4"))
    made.clear()
    again = an_output(tmp_path / "broken")
    writer = Writer(engine, again)
    write_shards(again, writer, names, 2, TEXT, make(writer))
    assert made == [["thing 4"]]
    for number in range(3):
        key = f"artifacts/made/{FINGERPRINT}/part-{number:05d}.parquet"
        assert whole.store.read(key) == again.store.read(key)


def test_a_folder_without_a_model_is_refused(run_stage) -> None:
    class NoModel(StageConfig):
        stage = "no-model"
        module = "none"

    def run(config: StageConfig, output: Output) -> Outcome:
        output.write_text("notes.txt", "no weights here")
        return Outcome()

    with pytest.raises(InputError, match="holds no model"):
        open_engine(run_stage(run, NoModel()), Resources())


def test_schema_of_rows_is_checked(engine: Engine, tmp_path: Path) -> None:
    output = an_output(tmp_path)
    with pytest.raises(InputError):
        write_shards(output, Writer(engine, output), ["a"], 1, TEXT, lambda names: [{"text": pa.array([1])}])
