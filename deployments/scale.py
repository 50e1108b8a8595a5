"""A preset's `scale`: multiplies rows and steps, never batch size, learning rate or evaluation."""


def scaled(count: int, scale: float) -> int:
    """Rows or steps at a scale; never fewer than one."""
    return max(1, round(count * scale))
