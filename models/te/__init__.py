"""Transformer Engine's modules inside our decoder, for NVIDIA GPUs: bf16 and FP8."""
