"""Looks this machine over: what Ratchet needs, what is there, and what is lost where something optional is not."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from packaging.requirements import Requirement

from infra.errors import RatchetError
from infra.ports import holder, is_free
from infra.services import PREFERRED, check_database, cores
from infra.settings import Settings
from infra.stack import Stack, StackStatus, answers
from infra.storage import Storage

LEAST_PYTHON = (3, 11)
LEAST_FREE_BYTES = 4 << 30
LEAST_MEMORY_BYTES = 6 << 30
LEAST_CORES = 2
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
COMMAND_S = 10.0


@dataclass(frozen=True)
class Check:
    """One finding. Where `needed` is False Ratchet works without, and `remedy` says what is lost."""

    name: str
    ok: bool
    found: str
    remedy: str = ""
    needed: bool = True


def doctor(settings: Settings) -> list[Check]:
    """Every check, in the order in which one would repair things. Starts nothing; takes some seconds."""
    status = Stack(settings.workspace).status()
    return [
        python(),
        packages(),
        processor(),
        memory(),
        workspace(settings.workspace),
        disk(settings.workspace),
        *databases(settings.workspace),
        store(settings.store),
        *services(status),
        *ports(status),
        *configured(settings),
        gpu(),
        transformer_engine(),
        sandbox(),
        browser(),
    ]


def python() -> Check:
    ok = sys.version_info >= LEAST_PYTHON
    wanted = ".".join(map(str, LEAST_PYTHON))
    return Check("python", ok, f"{platform.python_version()} at {sys.executable}", f"install Python {wanted} or newer")


def packages() -> Check:
    """Every dependency that the package declares, at a version that it allows."""
    wrong, right = [], 0
    for line in importlib.metadata.requires("ratchet") or []:
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            version = None
        if version is None or not wanted.specifier.contains(version.partition("+")[0], prereleases=True):
            wrong.append(f"{wanted.name} {version or 'missing'} (wanted {wanted.specifier or 'any'})")
        else:
            right += 1
    return Check("packages", not wrong, "; ".join(wrong) or f"{right} at their versions", "run `make setup`")


def processor() -> Check:
    found = f"{cores()} cores usable of {os.cpu_count()}, {platform.machine()}"
    return Check("cores", cores() >= LEAST_CORES, found, f"a run on fewer than {LEAST_CORES} cores takes very long")


def memory() -> Check:
    available = psutil.virtual_memory().available
    remedy = f"close programs: the default preset wants {LEAST_MEMORY_BYTES / 1e9:.0f} GB; `tiny` is content with half"
    return Check("memory", available >= LEAST_MEMORY_BYTES, f"{available / 1e9:.1f} GB available", remedy)


def workspace(folder: Path) -> Check:
    """Only looks: a workspace is made by the first run."""
    nearest = existing(folder)
    ok = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    found = f"{folder} {'is writable' if ok else f'cannot be written: see {nearest}'}"
    return Check("workspace", ok, found, "give this user the right to write there, or choose another with --workspace")


def disk(folder: Path) -> Check:
    free = shutil.disk_usage(existing(folder)).free
    remedy = f"an iteration needs {LEAST_FREE_BYTES / 1e9:.0f} GB: free some, or choose another disk with --workspace"
    return Check("disk", free >= LEAST_FREE_BYTES, f"{free / 1e9:.1f} GB free", remedy)


def databases(folder: Path) -> Iterator[Check]:
    for name in ("prefect", "mlflow"):
        path = folder / "db" / f"{name}.db"
        if path.exists():
            yield attempt(f"{name} database", lambda path=path: check_database(path), f"{path} opens")


def store(uri: str) -> Check:
    return attempt("store", lambda: Storage.open(uri).children(""), f"{uri} can be listed")


def services(status: StackStatus) -> Iterator[Check]:
    """A stack need not run; one that does should be healthy."""
    for service in status.services:
        found = f"{service.url} {service.detail or 'answers'}"
        yield Check(service.name, service.healthy, found, f"`ratchet down`, `ratchet up`; its log is {service.log}")
    if not status.services:
        yield Check("stack", True, "not running; `ratchet run` starts its own, `ratchet up` one that stays")


def ports(status: StackStatus) -> Iterator[Check]:
    """The usual ports, unless this workspace's own stack holds them."""
    own = {httpx.URL(service.url).port for service in status.services}
    for name, port in PREFERRED.items():
        if port not in own:
            free = is_free(port)
            found = f"{port} is free" if free else f"{port} is held by {holder(port) or 'another user'}"
            yield Check(f"{name} port", free, found, f"`ratchet up` needs --{name}-port with another", needed=False)


def configured(settings: Settings) -> Iterator[Check]:
    """Servers that the environment names."""
    for variable, url, path in (
        ("PREFECT_API_URL", settings.prefect_api_url, "/health"),
        ("MLFLOW_TRACKING_URI", settings.mlflow_tracking_uri, "/health"),
        ("RAY_ADDRESS", settings.ray_address, "/api/version"),
    ):
        if url is not None:
            ok = answers(f"{url}{path}")
            found = f"{url} {'answers' if ok else 'does not answer'}"
            yield Check(variable, ok, found, f"start that server or unset {variable}")


def gpu() -> Check:
    said = output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")
    found = "; ".join(said.splitlines()) or "none"
    lost = "without one training and generation run on the CPU, in fp32, and models beyond about 1 B are out of reach"
    return Check("gpu", bool(said), found, lost, needed=False)


def transformer_engine() -> Check:
    there = importlib.util.find_spec("transformer_engine") is not None
    found = importlib.metadata.version("transformer_engine") if there else "not installed"
    return Check("transformer engine", there, found, "without it there is no FP8 (`pip install 'ratchet[te]'`)", False)


def sandbox() -> Check:
    """Whether bubblewrap is there and this kernel lets it make a namespace."""
    lost = "without it no generated code is executed (`apt-get install bubblewrap`)"
    if shutil.which("bwrap") is None:
        return Check("sandbox", False, "bubblewrap (bwrap) is not installed", lost, needed=False)
    works = output("bwrap", "--ro-bind", "/", "/", "--unshare-all", "echo", "works").strip() == "works"
    found = "bubblewrap works" if works else "bubblewrap is there, but may not make user namespaces"
    return Check("sandbox", works, found, lost, needed=False)


def browser() -> Check:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    lost = "without it the tests in a browser are left out (`apt-get install chromium`)"
    return Check("browser", found is not None, found or "no Chromium", lost, needed=False)


def attempt(name: str, action: Callable[[], object], good: str) -> Check:
    """A check that is its own try: the error says what was found and what to do."""
    try:
        action()
    except RatchetError as error:
        return Check(name, False, error.message, error.remedy)
    return Check(name, True, good)


def output(*command: str) -> str:
    """What a command prints, "" when it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def existing(folder: Path) -> Path:
    """The folder or the nearest one above it that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
