"""Which code made an artifact."""

import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@lru_cache(maxsize=1)
def code_version() -> str:
    """The git commit, with "+dirty" for uncommitted changes, when run from a checkout; else the package's version."""
    root = Path(__file__).resolve().parent.parent
    if (root / ".git").exists():
        commit = _git(root, "rev-parse", "--short=12", "HEAD")
        if commit:
            return commit + ("+dirty" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    try:
        return version("ratchet")
    except PackageNotFoundError:
        return "unknown"


def _git(root: Path, *arguments: str) -> str:
    """Output of a git command; "" when git is missing or refuses."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
