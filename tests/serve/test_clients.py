"""The clients that people use, at the versions of tests/clients, against a real server.

Each runs in an environment of its own, which `make test-clients` makes, as they do not get on with our pins.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import Running

ROOT = Path(__file__).parents[2]
SCRIPTS, BUILT = ROOT / "tests" / "clients", ROOT / "build" / "clients"
PYTHON, INSTRUCTOR = BUILT / "python" / "bin" / "python", BUILT / "instructor" / "bin" / "python"
# A client's script, the program that runs it, and what it must be able to do.
BASIC = ("chat", "stream", "structured", "tools", "too_long")
ALL = ("chat", "stream", "structured", "tools", "embeddings", "responses", "too_long")
CLIENTS = {
    "openai_client.py": (PYTHON, (*ALL, "asynchronous")),
    "langchain_client.py": (PYTHON, (*ALL, "asynchronous")),
    "litellm_client.py": (PYTHON, (*ALL, "asynchronous")),
    "llm_client.py": (PYTHON, BASIC),
    "instructor_client.py": (INSTRUCTOR, ("structured", "structured_tools", "structured_strict_tools")),
    "openai_client.mjs": (None, ALL),
    "ai_client.mjs": (None, ALL),
}


@pytest.mark.slow
@pytest.mark.parametrize("script", CLIENTS)
def test_a_client_can_do_all_that_the_documentation_says(tools_server: Running, script: str) -> None:
    python, expected = CLIENTS[script]
    if python is None:
        folder, program = BUILT / "node", shutil.which("node", path=ROOT / ".venv" / "bin") or shutil.which("node")
    else:
        folder, program = python.parent, str(python)
    if not (folder.is_dir() and program):
        pytest.skip("the clients are not installed: make test-clients")
    path = SCRIPTS / script
    if python is None:  # Node looks for packages beside the script
        for source in SCRIPTS.glob("*.mjs"):
            shutil.copy(source, folder)
        path = folder / script
    done = subprocess.run(
        [program, path, tools_server.base], capture_output=True, text=True, timeout=240, check=False, cwd=folder
    )
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"check"')]
    failed = {one["check"]: one["error"] for one in found if one["error"]}
    assert not failed, "\n".join(f"{check}: {error}" for check, error in failed.items())
    assert sorted(one["check"] for one in found) == sorted(expected), done.stderr[-2000:]


@pytest.mark.slow
def test_guidellm_measures_answers_of_exactly_the_lengths_that_it_asks_for(
    tools_server: Running, runs: Path, tmp_path: Path
) -> None:
    program = BUILT / "guidellm" / "bin" / "guidellm"
    if not program.exists():
        pytest.skip("the clients are not installed: make test-clients")
    rows, report = tmp_path / "rows.jsonl", tmp_path / "report.json"
    lengths = [12, 9]
    rows.write_text("".join(json.dumps({"prompt": "Name a colour", "output_tokens_count": n}) + "\n" for n in lengths))
    options = {
        "--backend": f"kind=openai_http,target={tools_server.base},model=tiny",
        "--profile": "kind=synchronous",
        "--constraint": "kind=max_requests,count=2",
        "--tokenizer": f"kind=huggingface_auto,model={runs / 'tiny'}",
        "--data": f"kind=json_file,path={rows}",
        "--output": f"kind=json,path={report}",
    }
    command = [program, "run", "--disable-progress", *(part for option in options.items() for part in option)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "GUIDELLM__MAX_WORKER_PROCESSES": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    requests = json.loads(report.read_text())["benchmarks"][0]["requests"]
    assert sorted(one["output_tokens"] for one in requests["successful"]) == sorted(lengths)
    assert not requests["errored"] and not requests["incomplete"]


def test_the_documented_versions_are_those_that_are_tested() -> None:
    # Instructor brings an older client of OpenAI's, which the other file's comes after.
    texts = [(SCRIPTS / name).read_text() for name in ("guidellm.txt", "instructor.txt", "requirements.txt")]
    pins = dict(re.findall(r"^([\w.-]+)==([\w.]+)", "\n".join(texts), re.MULTILINE))
    npm = json.loads((SCRIPTS / "package.json").read_text())["dependencies"]
    table = (ROOT / "docs" / "api.md").read_text(encoding="utf-8").partition("## Clients")[2]
    documented = re.findall(r"^\| `([^`]+)` \((PyPI|npm)\) \| ([\d.]+) \|", table, re.MULTILINE)
    assert len(documented) >= 8
    for name, registry, version in documented:
        if name != "lm_eval":
            assert (pins if registry == "PyPI" else npm)[name] == version, name
