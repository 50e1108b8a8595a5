"""One run of SmolLM2 over every family, which the tests of the families look at, each at its own part."""

import pytest

from infra.artifacts import Artifact
from infra.storage import Storage
from tasks import write_prompts
from tasks.configs.prompts import PromptsConfig, prompt_families
from tasks.prompts.instructions.base import FORMS
from tasks.rows import TOPIC, make_row
from tests.tasks.conftest import giver, stage_runner

SUBJECTS = ("coffee", "prime numbers", "house plants", "ancient Rome", "trains", "smartphones", "sleep", "apples")
WANTED = dict.fromkeys(prompt_families(), 2) | {"instruction": 6}


@pytest.fixture(scope="session")
def written(smollm: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Two prompts of each family, and two of each form of an instruction."""
    root = tmp_path_factory.mktemp("written")
    store = Storage.open(root / "store")
    known = {"macro_topic": "Life", "source": "topics/curated", "synthetic": False, "generator": "",
             "licence": "Apache-2.0"}  # fmt: skip
    subjects = [make_row(TOPIC, {"topic": name, **known}, name) for name in SUBJECTS]
    topics = giver(store, root)("topics", lambda output: output.write_shard(0, subjects, TOPIC))
    config = PromptsConfig(
        families=WANTED, oversample=2.5, max_tokens=64, keyword_maths=0.4, forms=dict.fromkeys(FORMS, 1.0), seed=1
    )
    return stage_runner(store, root)(write_prompts.run, config, generator=smollm, topics=topics)
