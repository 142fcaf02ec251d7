"""Whatever the schema allows, and much that it does not: no answer is a fault, and each is as documented."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from serve.keys import main as keys

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
CASES = 5000
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
    "use_after_free",
    "ensure_resource_availability",
)


@pytest.fixture(scope="module")
def guarded(launch):
    """A server that asks for keys, and whose window is so small that every answer is short."""
    pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    return launch("checkpoint=[tiny,other]", "context_length=64", "max_queue=64", RESONANCE_API_KEYS="a-key")


def examine(server, key: str, folder: Path, *more: str) -> dict[str, Any]:
    """Let schemathesis send what it makes from the server's own schema; return its report, in which nothing failed."""
    report = folder / "report.json"
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{server.base}/openapi.json"),
        *("--checks", ",".join(CHECKS), "--header", f"Authorization: Bearer {key}", *more),
        *("--seed", "1", "--continue-on-failure", "--generation-database", "none", "--no-color"),
        *("--report", "json", "--report-json-path", str(report)),
    ]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": str(Path(__file__).with_name("schema_hooks.py"))}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    return json.loads(report.read_text())


def test_thousands_of_requests_made_from_the_schema_are_answered_as_it_says(guarded, tmp_path):
    told = examine(guarded, "a-key", tmp_path, "--max-examples", "120")
    cases, operations = told["test_cases"]["generated"], told["operations"]
    print(f"{cases} requests to {operations['tested']} operations in {told['running_time']:.0f} s")
    assert operations["tested"] == operations["total"]
    assert cases >= CASES
    assert guarded.client.get("/health").status_code == 200


def test_what_an_admin_may_do_is_answered_as_the_schema_says(guarded, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RESONANCE_HOME", str(guarded.log.parent))
    keys(["action=add", "name=schema", "admin=true"])
    key = capsys.readouterr().out.strip()
    told = examine(guarded, key, tmp_path, "--max-examples", "10", "--include-path-regex", "^/v1/models")
    print(f"{told['test_cases']['generated']} requests with an admin key in {told['running_time']:.0f} s")
    assert guarded.client.get("/health").status_code == 200
