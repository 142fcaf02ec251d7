"""The page's types are those of the API's OpenAPI document."""

import hashlib
from pathlib import Path

from serve.web.openapi.document import schemas

TYPES = Path(__file__).parents[2] / "serve" / "web" / "src" / "api" / "schema.d.ts"


def test_the_pages_types_are_made_of_the_api_as_it_is():
    fresh = hashlib.sha256(schemas().encode()).hexdigest()
    assert f"// sha256 of its schemas: {fresh}\n" in TYPES.read_text(), (
        "the API's schemas have changed: run `npm --prefix serve/web run types` with .venv/bin in PATH, and commit"
    )
