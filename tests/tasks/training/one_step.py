"""A process to kill: supervised fine-tuning in one step of many rounds, with checkpoints as often as may be.

python -m tests.tasks.training.one_step FOLDER BASE DIALOGUES     the workshop's folder, and what it trains on as JSON
"""

import sys
from pathlib import Path

import torch

from infra.artifacts import Artifact
from tasks import resume_points, sft
from tasks.configs.base import Resources
from tasks.configs.training import SFTConfig
from tests.tasks.training.conftest import Workshop

ROWS = 500
ONE_STEP = SFTConfig(
    epochs=1,
    global_batch_size=ROWS,
    learning_rate=5e-3,
    resources=Resources(microbatch_tokens=32, checkpoint_every_s=1e-6),
)

if __name__ == "__main__":
    torch.set_num_threads(1)
    resume_points.LARGEST_SHARE = 1.0  # the second checkpoint follows soon on the first, however long that took
    base, dialogues = map(Artifact.model_validate_json, sys.argv[2:])
    Workshop(Path(sys.argv[1])).run(sft.run, ONE_STEP, base=base, dialogues=dialogues)
