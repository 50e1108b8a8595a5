"""Generate and score with one model on one device."""

from models.engine.engine import Engine
from models.engine.interface import Completion, Constraint, Generator, Result, SamplingParams, TokenLogprob

__all__ = ["Completion", "Constraint", "Engine", "Generator", "Result", "SamplingParams", "TokenLogprob"]
