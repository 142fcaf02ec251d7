"""lm-evaluation-harness is optional: nothing imports it until it is asked for."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest

from eval import EvalError
from eval.harness import definitions
from eval.harness.task import harness_tasks


def test_evaluation_does_not_import_the_harness_before_it_is_asked_for() -> None:
    code = "import sys, eval.run; print([name for name in sys.modules if name.split('.')[0] == 'lm_eval'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_the_harness_one_sentence_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(definitions, "version", version)
    with pytest.raises(EvalError, match=r"is not installed; pip install 'resonance\[lm-eval\]' installs it\."):
        harness_tasks(["piqa"], {})


def test_no_task_of_the_harness_runs_unless_named() -> None:
    assert harness_tasks([], {"limit": None, "chat_template": False}) == {}
