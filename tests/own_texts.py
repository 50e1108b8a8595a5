"""Texts of a user's own, and the plan file of docs/training.md that names them: what is documented is tested."""

import json
import re
from pathlib import Path

GUIDE = Path(__file__).parents[1] / "docs/training.md"
EXAMPLE = re.compile(r"^## Pretraining on your own texts$.*?^```yaml$\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ONE_SOURCE = re.compile(r"^One source in both phases.*?^```yaml$\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WORDS = ["river", "stone", "winter", "bread", "market", "sister", "window", "paper", "garden", "engine"]
MORE = ["rivière", "pierre", "hiver", "pain", "marché", "sœur", "fenêtre", "papier", "jardin", "moteur"]


def write_example(folder: Path) -> Path:
    """The documented file, with texts at the places that it names, here in `folder`."""
    for name, words, count in (("english", WORDS, 40), ("multilingual", MORE, 12)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            some = " ".join(words[(number * step) % len(words)] for step in range(1, 12 + number % 5))
            (folder / name / f"{number}.txt").write_text(f"Page {number}: {some}.\n")
    (folder / "code").mkdir()
    for number in range(10):
        (folder / "code" / f"{number}.py").write_text(f"def add_{number}(value):\n    return value + {number}\n")
    answers = [{"text": f"What is {n} plus 1? It is {n + 1}."} for n in range(20)]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    people = [
        [{"role": "user", "content": f"What is {n} plus 1?"}, {"role": "assistant", "content": str(n + 1)}]
        for n in range(8)
    ]
    (folder / "people.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in people))
    path = folder / "mine.yaml"
    path.write_text(documented(EXAMPLE).replace("/data/", f"{folder}/"))
    return path


def write_one_source(path: Path) -> Path:
    """The documented file with one source, by relative paths."""
    path.write_text(documented(ONE_SOURCE))
    return path


def documented(example: re.Pattern[str]) -> str:
    found = example.search(GUIDE.read_text())
    assert found is not None, f"no example in {GUIDE}"
    return found[1]
