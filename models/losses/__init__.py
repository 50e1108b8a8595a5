"""Losses: pure functions of tensors that return (loss, metrics), each with its formula on top of its file."""

from models.losses.dpo import dpo_loss
from models.losses.logprobs import summed_nll, token_logprobs
from models.losses.regression import regression_loss
from models.losses.rpo import Distance, rpo_loss
from models.losses.sft import sft_loss

__all__ = ["Distance", "dpo_loss", "regression_loss", "rpo_loss", "sft_loss", "summed_nll", "token_logprobs"]
