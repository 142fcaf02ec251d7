"""Static files: the built chat page, and Swagger UI for the API."""

import json
from collections.abc import Awaitable, Callable
from importlib import resources
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

from serve.middleware.access_log import PAGE_POLICY

DIST = Path(__file__).parents[1] / "web" / "dist"
# Swagger UI sets inline styles, and takes its icons from data: URLs.
DOCS_POLICY = PAGE_POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
# A diagram is drawn in a sandboxed frame of the page, of an origin of its own; Mermaid sets inline styles.
DIAGRAM_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src data:; "
    "font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
DIAGRAM_HEADERS = {"Content-Security-Policy": DIAGRAM_POLICY, "X-Frame-Options": "SAMEORIGIN"}
FOREVER = "public, max-age=31536000, immutable"

NOT_BUILT = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Resonance</title></head>
<body><h1>Resonance</h1>
<p>The server runs; its chat page has not been built. Build it with <code>make web</code>, then start the server
again.</p>
<p>The API is described at <a href="/docs">/docs</a>.</p>
</body></html>
"""
DOCS = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Resonance API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="/docs/static/favicon.png">
<link rel="stylesheet" href="/docs/static/swagger-ui.css"></head>
<body><div id="swagger-ui"></div>
<script src="/docs/static/swagger-ui-bundle.js"></script><script src="/docs/start.js"></script>
</body></html>
"""
START = f"""SwaggerUIBundle({
    json.dumps({"url": "/openapi.json", "dom_id": "#swagger-ui", "deepLinking": True, "validatorUrl": None})
});
"""


def add_page(app: FastAPI, dist: Path = DIST) -> None:
    """Serve the built page at / and the paths of what it shows, or a page that says how to build it."""
    index = dist / "index.html"

    async def page(request: Request) -> Response:
        if not index.is_file():
            return HTMLResponse(NOT_BUILT)
        return FileResponse(index, headers={"Cache-Control": "no-cache"})

    for path in ("/", "/c/{conversation_id}", "/s/{share_id}", "/d/{document:path}"):
        app.add_api_route(path, page, methods=["GET", "HEAD"], include_in_schema=False)
    if not index.is_file():
        return
    for entry in sorted(dist.iterdir()):
        if entry.is_dir():
            app.mount(f"/{entry.name}", _Assets(directory=entry), name=f"page-{entry.name}")
        elif entry != index:
            app.add_api_route(f"/{entry.name}", _file(entry), methods=["GET", "HEAD"], include_in_schema=False)


def add_docs(app: FastAPI) -> None:
    """Serve Swagger UI's files from this machine, without inline scripts; FastAPI's own page loads them from a CDN."""
    app.router.routes[:] = [
        route for route in app.router.routes if not getattr(route, "path", "").startswith(("/docs", "/redoc"))
    ]

    async def docs(request: Request) -> Response:
        return HTMLResponse(DOCS, headers={"Content-Security-Policy": DOCS_POLICY})

    async def start(request: Request) -> Response:
        return Response(START, media_type="text/javascript")

    app.add_api_route("/docs", docs, methods=["GET"], include_in_schema=False)
    app.add_api_route("/docs/start.js", start, methods=["GET"], include_in_schema=False)
    static = resources.files("fastapi_offline") / "static"
    app.mount("/docs/static", StaticFiles(directory=str(static)), name="docs-static")


class _Assets(StaticFiles):
    """Files whose names contain a hash of their contents; browsers cache them without limit."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        if response.status_code == 200:
            response.headers["Cache-Control"] = FOREVER
        return response


def _file(path: Path) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint for one file."""

    async def endpoint(request: Request) -> Response:
        more = DIAGRAM_HEADERS if path.name == "diagram.html" else {}
        return FileResponse(path, headers={"Cache-Control": "no-cache"} | more)

    return endpoint
