"""The shape that a request asks its answer to have, in OpenAI's words or in vLLM's."""

import json
from collections.abc import Mapping
from typing import Any

from deployments.server.errors import refused
from models.engine import Constraint

GUIDED = {"guided_json": "json", "guided_regex": "regex", "guided_choice": "choice", "guided_grammar": "grammar"}
"""vLLM's older fields, each the same as a key of the newer `structured_outputs`."""


def constraint_of(
    response_format: Mapping[str, Any] | None, outputs: Mapping[str, Any] | None, guided: Mapping[str, Any]
) -> Constraint | None:
    """None where any text will do. `guided`: the fields of GUIDED, None where not given.

    Raises ApiError for a shape that there is not, and for more than one.
    """
    found: list[Constraint] = []
    if response_format is not None:
        found += _from_format(response_format)
    for kind, value in (outputs or {}).items():
        if value is not None and value is not False:
            found.append(_structured("structured_outputs", kind, value))
    for name, kind in GUIDED.items():
        if guided.get(name) is not None:
            found.append(_structured(name, kind, guided[name]))
    if len(found) > 1:
        raise refused(f"{len(found)} shapes for one answer; expected at most one", "response_format")
    return found[0] if found else None


def _from_format(response_format: Mapping[str, Any]) -> list[Constraint]:
    kind = response_format.get("type")
    if kind == "text":
        return []
    if kind == "json_object":
        return [Constraint("json_schema", '{"type": "object"}')]
    if kind == "json_schema":
        given = response_format.get("json_schema")
        schema = given.get("schema") if isinstance(given, Mapping) else None
        if not isinstance(schema, Mapping):
            raise refused("json_schema holds no schema; expected an object at json_schema.schema", "response_format")
        return [Constraint("json_schema", json.dumps(schema))]
    raise refused(f"type is {kind!r}; expected text, json_object or json_schema", "response_format")


def _structured(field: str, kind: str, value: Any) -> Constraint:
    if kind == "json" and isinstance(value, str | Mapping):
        return Constraint("json_schema", value if isinstance(value, str) else json.dumps(value))
    if kind == "json_object" and value is True:
        return Constraint("json_schema", '{"type": "object"}')
    if kind == "regex" and isinstance(value, str):
        return Constraint("regex", value)
    if kind == "grammar" and isinstance(value, str):
        return Constraint("lark", value)
    if kind == "choice" and isinstance(value, list) and value and all(isinstance(one, str) and one for one in value):
        return Constraint.choices(value)
    raise refused(
        f"{kind} cannot be {json.dumps(value)[:100]}; expected json (a schema), json_object (true), regex (text), "
        "choice (a list of texts) or grammar (Lark)",
        field,
    )
