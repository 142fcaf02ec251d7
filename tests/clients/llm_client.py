"""Simon Willison's `llm`, by its command line."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from checks import LONG, MODEL, QUESTION, base, is_city, run

HOME = Path(tempfile.mkdtemp(prefix="llm-"))
HOME.joinpath("extra-openai-models.yaml").write_text(
    f"- model_id: here\n  model_name: {MODEL}\n  api_base: {base()}\n  supports_schema: true\n  supports_tools: true\n"
)


def llm(*arguments: str, fails: bool = False) -> str:
    command = [str(Path(sys.executable).with_name("llm")), *arguments]
    environment = os.environ | {"LLM_USER_PATH": str(HOME), "OPENAI_API_KEY": "none"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode != 0) == fails, done.stderr
    return done.stderr if fails else done.stdout


def chat() -> None:
    assert llm("-m", "here", "--no-stream", "-o", "max_tokens", "8", QUESTION)


def stream() -> None:
    assert llm("-m", "here", "-o", "max_tokens", "8", QUESTION)


def structured() -> None:
    found = json.loads(llm("-m", "here", "-o", "max_tokens", "90", "--schema", "city, warm bool", QUESTION))
    assert is_city(found)


def tools() -> None:
    function = "def weather(city: str) -> str:\n    'Tell the weather.'\n    return city\n"
    assert llm("-m", "here", "-o", "max_tokens", "20", "--functions", function, QUESTION)


def too_long() -> None:
    assert "maximum context length" in llm("-m", "here", LONG, fails=True)


run(chat, stream, structured, tools, too_long)
