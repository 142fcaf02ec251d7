"""Runs a client's checks against a server: one line of JSON for each, `{"check", "error"}`.

It imports nothing of this project: it runs in the clients' own environment.
"""

import asyncio
import inspect
import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

MODEL, OTHER = "caller", "tiny"  # with tools in its template, and without
QUESTION = "Is it warm in Bonn?"
LONG = "one word and another " * 3000  # more than the context of MODEL, 2,048 tokens
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "warm": {"type": "boolean"}},
    "required": ["city", "warm"],
    "additionalProperties": False,
}
Check = Callable[[], Any]


def run(*checks: Check) -> None:
    """Run the checks, also those after one that fails."""
    for check in checks:
        error = None
        try:
            result = check()
            if inspect.iscoroutine(result):
                asyncio.run(result)
        except Exception:
            error = traceback.format_exc()[-1500:]
        print(json.dumps({"check": check.__name__, "error": error}), flush=True)


def base() -> str:
    """The address of the API."""
    return sys.argv[1] + "/v1"


def is_city(value: Any) -> bool:
    """Whether a value is what `CITY` describes; clients that leave `additionalProperties` out may get more."""
    return {"city", "warm"} <= set(value) and isinstance(value["city"], str) and isinstance(value["warm"], bool)
