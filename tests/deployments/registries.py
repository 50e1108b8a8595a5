"""A workspace's own registry, real but without its server: the database that MLflow makes, filled by MLflow."""

import tempfile
from functools import cache
from pathlib import Path

from mlflow.entities.model_registry import ModelVersionTag
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

from infra.artifacts import Artifact


@cache
def empty_database() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mlflow.db")
        SqlAlchemyStore(f"sqlite:///{path}")
        return path.read_bytes()


def register(workspace: Path, artifact: Artifact, name: str = "demo", alias: str = "", **tags: str) -> None:
    """With the tags that Ratchet's own registration gives, unless `tags` says otherwise; "" leaves one out."""
    path = workspace / "db" / "mlflow.db"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(empty_database())
    store = SqlAlchemyStore(f"sqlite:///{path}")
    if name not in [model.name for model in store.search_registered_models()]:
        store.create_registered_model(name)
    given = {"uri": artifact.uri, "fingerprint": artifact.fingerprint} | tags
    entries = [ModelVersionTag(key, value) for key, value in given.items() if value]
    version = store.create_model_version(name, artifact.uri, tags=entries).version
    if alias:
        store.set_registered_model_alias(name, alias, version)
    store.engine.dispose()
