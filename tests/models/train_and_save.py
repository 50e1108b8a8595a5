"""A process to kill: trains 60 steps, saves each, and resumes from the newest complete checkpoint in its folder."""

import shutil
import sys
from pathlib import Path

import torch

from tests.models.test_train import make_trainer

torch.set_num_threads(int(sys.argv[2]))
folder = Path(sys.argv[1])
trainer = make_trainer(steps=60)
found = sorted(folder.glob("step-*"), key=lambda path: int(path.name.split("-")[1]))
if found:
    trainer.restore(found[-1])
for report in trainer.run():
    writing = folder / "writing"
    shutil.rmtree(writing, ignore_errors=True)
    writing.mkdir()
    trainer.save(writing)()
    writing.rename(folder / f"step-{report.step}")
