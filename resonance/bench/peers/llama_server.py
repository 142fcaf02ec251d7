"""The server of `llama-cpp-python[server]`, set up for answers one after another: it has no batches.

`python -m resonance.bench.peers.llama_server FILE.gguf PORT THREADS` serves until it is ended.
"""

import sys

from llama_cpp import llama_cpp
from llama_cpp.server.__main__ import main

from resonance.bench.peers.llama_cpp import CONTEXT, loading_params

if __name__ == "__main__":
    path, port, threads = sys.argv[1:]
    params = loading_params()
    llama_cpp.llama_model_default_params = lambda: params  # the server has no option for it
    options = {
        "model": path,
        "host": "127.0.0.1",
        "port": port,
        "n_ctx": CONTEXT,
        "n_threads": threads,
        "n_threads_batch": threads,
        "logits_all": "false",  # true: logits of every prompt token
        "interrupt_requests": "false",  # true: a request interrupts the answer before it
        "verbose": "false",
    }
    sys.argv = [sys.argv[0], *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
    main()
