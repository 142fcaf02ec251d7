"""What a start waits for."""

import subprocess
import sys


def test_a_server_that_searches_nothing_imports_none_of_what_searches():
    code = "import sys, serve.run, resonance.retrieval; resonance.retrieval.build_retriever('off'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "litserve" in loaded
    assert not loaded & {"trafilatura", "pypdf", "lxml", "bm25s", "ddgs", "httpcore", "httpx", "markdown_it", "stamina"}
