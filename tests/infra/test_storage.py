"""The same behaviour on a folder and on S3; then what each can do wrong: kills, full disks, dead servers."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import AlreadyExists, InputError, ServiceError, StoreError
from infra.storage import Storage, check_key
from infra.storage_s3 import CHUNK_BYTES
from tests.s3_server import BUCKET, S3Server, Seaweed


def run_python(code: str, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)  # type: ignore[call-overload]


class TestBoth:
    def test_put_read_replace(self, store: Storage) -> None:
        store.put("a/b.txt", b"one")
        store.put("a/b.txt", b"two, longer")
        assert store.read("a/b.txt") == b"two, longer"
        assert store.size("a/b.txt") == 11
        assert store.exists("a/b.txt")

    def test_empty_file(self, store: Storage) -> None:
        store.create("empty", b"")
        assert (store.read("empty"), store.size("empty"), store.list()) == (b"", 0, ["empty"])

    def test_create_keeps_the_first(self, store: Storage) -> None:
        store.create("m.json", b"first")
        with pytest.raises(AlreadyExists, match=r"m\.json"):
            store.create("m.json", b"second")
        assert store.read("m.json") == b"first"

    def test_of_many_creators_one_wins(self, store: Storage) -> None:
        gate = threading.Barrier(8)

        def write(number: int) -> bool:
            gate.wait()
            try:
                store.create("manifest.json", str(number).encode() * 10_000)
            except AlreadyExists:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            won = [number for number, wins in enumerate(pool.map(write, range(8))) if wins]
        assert len(won) == 1
        assert store.read("manifest.json") == str(won[0]).encode() * 10_000

    def test_readers_see_whole_contents_only(self, store: Storage) -> None:
        size, stop = 300_000, threading.Event()
        store.put("x", b"a" * size)

        def replace() -> None:
            while not stop.is_set():
                store.put("x", b"b" * size)
                store.put("x", b"a" * size)

        writer = threading.Thread(target=replace)
        writer.start()
        try:
            seen = {store.read("x") for _ in range(60)}
        finally:
            stop.set()
            writer.join()
        assert seen <= {b"a" * size, b"b" * size}

    def test_listing(self, store: Storage) -> None:
        for key in ("b/z", "b/a/1", "b/a/2", "bb/x", "c"):
            store.put(key, key.encode())
        assert store.list() == ["b/a/1", "b/a/2", "b/z", "bb/x", "c"]
        assert store.list("b") == ["b/a/1", "b/a/2", "b/z"]
        assert store.sizes("b/a") == {"b/a/1": 5, "b/a/2": 5}
        assert store.children() == ["b", "bb", "c"]
        assert store.children("b") == ["a", "z"]
        assert store.list("c") == store.children("c") == []
        assert store.list("none") == store.children("none") == []

    def test_nothing_there(self, store: Storage, tmp_path: Path) -> None:
        assert store.list() == store.children() == []
        assert not store.exists("a")
        assert store.read_if_exists("a") is None
        for call in (store.read, store.size, store.open_input):
            with pytest.raises(StoreError, match="no file 'a/b'"):
                call("a/b")
        with pytest.raises(StoreError, match="no file 'a'"):
            store.move("a", "b")
        with pytest.raises(StoreError, match="no file 'a'"):
            store.get_file("a", tmp_path / "copy")
        assert not (tmp_path / "copy").exists()
        with pytest.raises(StoreError, match=r"no file .*missing"):
            store.put_file(tmp_path / "missing", "a")
        store.delete("a")

    def test_a_folder_is_no_file(self, store: Storage) -> None:
        store.put("a/b", b"1")
        assert not store.exists("a")
        assert not store.exists("a/b/c")
        with pytest.raises(StoreError, match="no file 'a'"):
            store.read("a")

    def test_files_in_and_out(self, store: Storage, tmp_path: Path) -> None:
        (tmp_path / "in").write_bytes(b"content")
        store.put_file(tmp_path / "in", "f/put")
        store.create_file(tmp_path / "in", "f/create")
        with pytest.raises(AlreadyExists):
            store.create_file(tmp_path / "in", "f/create")
        store.get_file("f/put", tmp_path / "deep" / "out")
        assert (tmp_path / "deep" / "out").read_bytes() == b"content"
        assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]
        assert (tmp_path / "in").exists()

    def test_consumed_file(self, store: Storage, tmp_path: Path) -> None:
        (tmp_path / "in").write_bytes(b"content")
        store.put_file(tmp_path / "in", "f", consume=True)
        assert store.read("f") == b"content"

    def test_file_in_several_parts(self, store: Storage, tmp_path: Path) -> None:
        content = secrets.token_bytes(2 * CHUNK_BYTES + 12_345)
        (tmp_path / "big").write_bytes(content)
        store.create_file(tmp_path / "big", "big")
        assert store.read("big") == content
        with pytest.raises(AlreadyExists):
            store.create_file(tmp_path / "big", "big")
        with pytest.raises(AlreadyExists):
            store.create("big", content)

    def test_open_input_seeks(self, store: Storage) -> None:
        store.put("x", b"0123456789")
        with store.open_input("x") as stream:
            assert stream.seek(0, os.SEEK_END) == 10
            stream.seek(4)
            assert stream.read(3) == b"456"
            assert stream.read() == b"789"

    def test_move_and_delete(self, store: Storage) -> None:
        store.put("a/x", b"1")
        store.put("b/y", b"2")
        store.move("a/x", "b/y")
        assert store.list() == ["b/y"]
        assert store.read("b/y") == b"1"
        store.put("b/z/1", b"3")
        store.delete_folder("b")
        assert store.list() == []

    def test_what_others_write_is_seen_at_once(self, store: Storage, store_uri: str) -> None:
        assert store.list("a") == []
        code = "import sys; from infra.storage import Storage; Storage.open(sys.argv[1]).put('a/b', b'1')"
        assert run_python(code, store_uri).returncode == 0
        assert store.list("a") == ["a/b"]
        assert store.children() == ["a"]

    def test_address(self, store: Storage, store_uri: str) -> None:
        assert store.uri == store_uri
        assert store.location("a/b") == f"{store_uri}/a/b"
        local = store.local_path("a")
        assert local is None if store_uri.startswith("s3:") else local == Path(store_uri, "a")

    def test_refused_keys(self, store: Storage) -> None:
        for key in ("../x", "/x", "a//b", "", ".", "a/..", "a b", "a\\b", ".tmp/x", "ü", "a\n", "x" * 800):
            for call in (store.read, store.exists, store.delete, store.location, lambda key: store.put(key, b"")):
                with pytest.raises(InputError, match="key"):
                    call(key)


PARTS = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(["..", ".", "", ".tmp", "a", "b-1", "c.d"])


@settings(max_examples=150, deadline=None)
@given(st.lists(PARTS, min_size=1, max_size=4).map("/".join))
def test_a_key_is_refused_or_stays_inside(tmp_path_factory: pytest.TempPathFactory, key: str) -> None:
    root = tmp_path_factory.getbasetemp() / "keys"
    try:
        check_key(key)
    except InputError:
        return
    shutil.rmtree(root, ignore_errors=True)
    store = Storage.open(root / "store")
    store.create(key, b"1")
    assert store.list() == [key]
    assert [path.name for path in root.iterdir()] == ["store"]


class TestFolder:
    def test_unfinished_writes_are_never_seen(self, tmp_path: Path) -> None:
        code = """
            import sys
            from infra.storage import Storage
            store = Storage.open(sys.argv[1])
            data = b"x" * 20_000_000
            number = 0
            print("go", flush=True)
            while True:
                store.create(f"part-{number}", data)
                number += 1
        """
        command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
        for _ in range(3):
            with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
                assert writer.stdout and writer.stdout.readline() == b"go\n"
                time.sleep(0.15)
                writer.send_signal(signal.SIGKILL)
            store = Storage.open(tmp_path)
            assert set(store.sizes().values()) <= {20_000_000}
            for key in store.list():
                store.delete(key)

    def test_leftovers_of_killed_writers_are_removed_later(self, tmp_path: Path) -> None:
        fresh, old = tmp_path / ".tmp" / "1-fresh", tmp_path / ".tmp" / "1-old"
        fresh.parent.mkdir()
        for path in (fresh, old):
            path.write_bytes(b"half")
        os.utime(old, (0, 0))
        store = Storage.open(tmp_path)
        assert store.list() == store.children() == []
        store.put("a", b"1")
        assert fresh.exists() and not old.exists()

    def test_nothing_is_made_by_reading(self, tmp_path: Path) -> None:
        store = Storage.open(tmp_path / "store")
        assert store.list() == []
        assert not (tmp_path / "store").exists()

    def test_empty_folders_go_with_their_last_file(self, tmp_path: Path) -> None:
        store = Storage.open(tmp_path)
        store.put("a/b/c", b"1")
        (tmp_path / "made-by-a-killed-writer").mkdir()
        store.delete("a/b/c")
        assert store.children() == []
        assert not (tmp_path / "a").exists()

    def test_a_file_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StoreError, match=rf"a file lies where a folder is needed at {tmp_path}/file"):
            Storage.open(tmp_path / "file").put("a", b"1")
        store = Storage.open(tmp_path / "store")
        store.put("a", b"1")
        with pytest.raises(StoreError, match="a file lies where a folder is needed"):
            store.create("a/b", b"1")
        store.put("d/e", b"1")
        with pytest.raises(StoreError, match="a folder lies where a file is needed"):
            store.put("d", b"1")

    def test_full_disk(self, tmp_path: Path) -> None:
        unshare = ["unshare", "--user", "--map-root-user", "--mount"]
        try:
            possible = subprocess.run([*unshare, "true"], capture_output=True).returncode == 0
        except FileNotFoundError:
            possible = False
        if not possible:
            pytest.skip("needs unshare and user namespaces, to mount a small disk")
        code = """
            import sys
            from infra.errors import StoreError
            from infra.storage import Storage
            store = Storage.open(sys.argv[1])
            store.put("a", b"1")
            try:
                store.create("b", b"x" * 1_000_000)
            except StoreError as error:
                print(error)
            assert store.list() == ["a"], store.list()
            store.create("b", b"x" * 100_000)
        """
        script = 'mount -t tmpfs -o size=256k tmpfs "$1" && exec "$2" -c "$3" "$1"'
        arguments = [str(tmp_path), sys.executable, textwrap.dedent(code)]
        done = subprocess.run([*unshare, "sh", "-c", script, "sh", *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"no space left on the disk at {tmp_path}/b (free some space")

    def test_file_size_limit(self, tmp_path: Path) -> None:
        code = """
            import resource, sys
            from infra.errors import StoreError
            from infra.storage import Storage
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
            try:
                Storage.open(sys.argv[1]).put("b", b"x" * 5000)
            except StoreError as error:
                print(error)
        """
        done = run_python(code, str(tmp_path))
        assert f"the file is larger than this system or process may write at {tmp_path}/b" in done.stdout, done.stderr
        assert Storage.open(tmp_path).list() == []


class TestS3:
    @pytest.fixture(autouse=True)
    def variables(self, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in s3_server.variables().items():
            monkeypatch.setenv(name, value)

    def test_a_bucket_comes_with_its_first_write(self, s3_server: S3Server) -> None:
        bucket = f"new-{secrets.token_hex(4)}"
        store = Storage.open(f"s3://{bucket}")
        assert store.list() == store.children() == []
        assert store.read_if_exists("a") is None
        store.create("a", b"1")
        assert s3_server.client().cat_file(f"{bucket}/a") == b"1"

    def test_server_that_refuses_connections(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        started = time.monotonic()
        with pytest.raises(ServiceError, match=rf"S3 at {address} failed .*check .*AWS_ENDPOINT_URL"):
            Storage.open(f"s3://{BUCKET}")
        assert time.monotonic() - started < 10

    def test_server_that_never_answers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            address = f"http://127.0.0.1:{silent.getsockname()[1]}"
            monkeypatch.setenv("AWS_ENDPOINT_URL", address)
            started = time.monotonic()
            with pytest.raises(ServiceError, match=rf"S3 at {address} failed .*no answer in time"):
                Storage.open(f"s3://{BUCKET}")
            assert time.monotonic() - started < 10

    def test_wrong_secret(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        with pytest.raises(ServiceError, match=r"refused access.*AWS_SECRET_ACCESS_KEY"):
            Storage.open(f"s3://{BUCKET}")

    def test_no_credentials(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        with pytest.raises(ServiceError, match="credentials"):
            Storage.open(f"s3://{BUCKET}")

    def test_wrong_addresses(self) -> None:
        for uri in ("s3://", "gs://bucket/x", "s3://bucket/../x", "http://host/x"):
            with pytest.raises(InputError, match=r"s3://|key"):
                Storage.open(uri)

    def test_server_dies_and_comes_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        seaweed = Seaweed(tmp_path)
        try:
            seaweed.start()
            for name, value in seaweed.server.variables().items():
                monkeypatch.setenv(name, value)
            store = Storage.open(f"s3://{BUCKET}/mine")
            store.put("a", b"kept")
            stream = store.open_input("a")
            seaweed.kill()
            for call in (lambda: store.read("a"), lambda: store.put("b", b"2"), lambda: store.list(), stream.read):
                with pytest.raises(ServiceError, match=seaweed.server.endpoint):
                    call()
            seaweed.start()
            assert store.read("a") == b"kept"
            assert store.list() == ["a"]
        finally:
            seaweed.kill()
