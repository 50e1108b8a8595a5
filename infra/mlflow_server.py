"""An MLflow server in one process. (`mlflow server` keeps a second one, which takes six more seconds and 200 MB.)

python -P -m infra.mlflow_server PORT                 # the database and the artifacts' folder come from _MLFLOW_*
"""

import sys

import uvicorn
from mlflow.server.fastapi_app import app
from mlflow.server.handlers import initialize_backend_stores


def serve(port: int) -> None:
    """Listens once the database is there and migrated."""
    initialize_backend_stores()
    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
