"""Commands that end with the process that started them."""

import signal
import subprocess
import sys

import pytest

from resonance.child_process import ending_with_parent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's end")

PARENT = """
import subprocess, sys
from resonance.child_process import ending_with_parent
child = [sys.executable, "-c", "print('up', flush=True); import time; time.sleep(60)"]
subprocess.Popen(ending_with_parent(child)).wait()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_child_ends_with_its_parent_however_that_ends(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        parent.send_signal(number)
        parent.communicate(timeout=10)  # until the child has closed its output, too


def test_a_command_whose_parent_has_ended_already_does_not_begin() -> None:
    words = ending_with_parent(["echo", "begun"])
    words[4] = "1"  # as if that were the parent
    done = subprocess.run(words, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, b"")


def test_a_command_s_result_is_its_own() -> None:
    words = ending_with_parent([sys.executable, "-c", "import sys; print(sys.argv[1]); sys.exit(7)", "a b"])
    done = subprocess.run(words, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (7, b"a b\n")
