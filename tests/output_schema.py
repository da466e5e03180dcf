"""The schema of what the tasks print with `--json`."""

import json
from typing import Any, Final

from jsonschema import Draft202012Validator

from tests.support import REPOSITORY

SCHEMA: Final[dict[str, Any]] = json.loads((REPOSITORY / "docs" / "output.schema.json").read_text(encoding="utf-8"))


def complaints(name: str, text: str) -> list[str]:
    """Return what the schema has against a text, which must be one JSON document.

    :param name: The task, or `error`.
    """
    validator = Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": SCHEMA["$defs"]})
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(json.loads(text))]
