"""What a start waits for."""

import subprocess
import sys


def test_a_server_that_searches_nothing_imports_none_of_what_searches():
    code = "import sys, serve.run, resonance.retrieval; resonance.retrieval.build_retriever('off'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "litserve" in loaded
    assert not loaded & {"trafilatura", "pypdf", "lxml", "bm25s", "ddgs", "httpcore", "httpx", "markdown_it", "stamina"}


def test_a_server_without_a_compiler_says_so_once_in_its_log_and_in_health(launch, tmp_path):
    running = launch("checkpoint=tiny", PATH=str(tmp_path))
    note = "Computed by torch, which is slower than the C++ kernels: no C++ compiler found."
    assert running.client.get("/health").json()["model"]["notes"] == [note]
    assert running.log.read_text().count(note) == 1
