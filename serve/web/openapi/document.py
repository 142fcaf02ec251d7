"""Prints the schemas of the API's OpenAPI document, of which `types.mjs` makes the page's types."""

import json
import sys

from fastapi import FastAPI

from serve.api.app import add_routers, document


def schemas() -> str:
    """The document's schemas as JSON with sorted keys: the same for the same API, whatever its version."""
    app = FastAPI()
    add_routers(app)
    return json.dumps(document(app, open_to_all=False)["components"]["schemas"], sort_keys=True, ensure_ascii=False)


if __name__ == "__main__":
    sys.stdout.write(schemas())
