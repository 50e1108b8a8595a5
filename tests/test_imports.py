"""Imports go one way: deployments → flows → tasks → models, with flows and tasks also using infra."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "deployments": {"flows", "tasks", "models", "infra"},
    "flows": {"tasks", "infra"},
    "tasks": {"models", "infra"},
    "models": set(),
    "infra": set(),
}
OURS = set(MAY_IMPORT) | {"tests", "benchmarks"}
FLOWS_MAY_TAKE = ("tasks.configs", "tasks.rows")
FORBIDDEN_LIBRARIES = {
    "tasks": {"prefect", "mlflow"},
    "models": {"prefect", "mlflow", "ray", "s3fs"},
    "infra": {"prefect", "torch"},
}


def imported(path: Path) -> list[tuple[str, int]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.append((node.module, node.lineno))
    return found


@pytest.mark.parametrize("layer", MAY_IMPORT)
def test_layer_imports_only_what_lies_below(layer: str) -> None:
    wrong = []
    for path in sorted((ROOT / layer).rglob("*.py")):
        for module, line in imported(path):
            top = module.split(".")[0]
            where = f"{path.relative_to(ROOT)}:{line} imports {module}"
            if top in OURS and top != layer and top not in MAY_IMPORT[layer]:
                wrong.append(where)
            if layer == "flows" and top == "tasks" and not module.startswith(FLOWS_MAY_TAKE):
                wrong.append(where)
            if top in FORBIDDEN_LIBRARIES.get(layer, set()):
                wrong.append(where)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", ["tasks.configs.plan", "models.config"])
def test_configs_load_without_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0, f"{module} pulls torch in"
