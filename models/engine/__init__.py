"""Generate and score with one model on one device."""

from models.engine.engine import Engine
from models.engine.interface import Completion, Result, SamplingParams

__all__ = ["Completion", "Engine", "Result", "SamplingParams"]
