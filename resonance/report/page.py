"""The style of HTML reports, and the policy that forbids a page everything but its own style and script."""

import base64
import hashlib
from functools import cache
from pathlib import Path


@cache
def stylesheet() -> str:
    """The style of evaluation's and training's reports."""
    return Path(__file__).with_name("report.css").read_text(encoding="utf-8")


def page_policy(style: str, script: str | None = None) -> str:
    """The Content-Security-Policy of a page with this inline style and script."""
    scripts = "" if script is None else f" script-src '{_hash(script)}';"
    return f"default-src 'none'; style-src '{_hash(style)}';{scripts} base-uri 'none'; form-action 'none'"


def _hash(text: str) -> str:
    """The source expression of a Content-Security-Policy for an inline element with this text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
