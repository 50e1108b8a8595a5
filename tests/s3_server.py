"""A real S3 server: SeaweedFS from its wheel, with one user and a key made up for the session."""

import ctypes
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import fsspec

BUCKET = "ratchet-tests"


@dataclass(frozen=True)
class S3Server:
    endpoint: str
    access_key: str
    secret_key: str

    def variables(self) -> dict[str, str]:
        """The standard AWS_* variables, with every other source of credentials switched off."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def client(self) -> fsspec.AbstractFileSystem:
        """A connection of its own, beside the one under test."""
        return fsspec.filesystem(
            "s3",
            skip_instance_cache=True,
            use_listings_cache=False,
            endpoint_url=self.endpoint,
            key=self.access_key,
            secret=self.secret_key,
        )


def free_ports(count: int) -> list[int]:
    """Ports free now, all below 50000: SeaweedFS's gRPC ports lie 10000 above."""
    found: list[int] = []
    while len(found) < count:
        port = 20_000 + secrets.randbelow(30_000)
        with socket.socket() as http, socket.socket() as grpc:
            try:
                http.bind(("127.0.0.1", port))
                grpc.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
        if all(abs(port - other) not in (0, 10_000) for other in found):
            found.append(port)
    return found


class Seaweed:
    """One SeaweedFS with master, volume, filer and S3 gateway over `folder`; it dies with this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = free_ports(4)
        self.server = S3Server(f"http://127.0.0.1:{self.ports[3]}", "access", secrets.token_hex(8))
        credentials = [{"accessKey": self.server.access_key, "secretKey": self.server.secret_key}]
        identity = {"name": "tests", "credentials": credentials, "actions": ["Admin"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        (folder / "data").mkdir()

    def start(self) -> None:
        """Start it, again where it was killed; returns when it takes a PUT."""
        master, volume, filer, s3 = self.ports
        command = [
            str(Path(sys.executable).with_name("weed")), "-logtostderr=true", "server", "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1", f"-dir={self.folder / 'data'}", f"-master.port={master}", f"-volume.port={volume}",
            f"-filer.port={filer}", "-s3", f"-s3.port={s3}", f"-s3.config={self.folder / 's3.json'}",
            "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.electionTimeout=1s", "-volume.preStopSeconds=0",
            "-volume.max=100", "-master.volumeSizeLimitMB=64",
        ]  # fmt: skip
        # SeaweedFS would take AWS_* variables for the credentials to demand.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        with (self.folder / "weed.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=environment | {"GOMEMLIMIT": "300MiB"},
                preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL),
            )
        self._wait_for_put()

    def _wait_for_put(self) -> None:
        """Ready is who takes a real PUT; the port opens long before."""
        deadline = time.monotonic() + 60
        client = self.server.client()
        while True:
            try:
                return client.pipe_file(f"{BUCKET}/ready", b"yes")
            except Exception as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    log = (self.folder / "weed.log").read_text()[-2000:]
                    raise RuntimeError(f"SeaweedFS did not start: {error}\n{log}") from error
                time.sleep(0.2)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
