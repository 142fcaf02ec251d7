"""A child process that does not outlive the process that started it, however that one ends."""

import multiprocessing as mp
import os
import threading
from multiprocessing.connection import wait


def exit_with_parent() -> None:
    """Watch the parent from a thread and end this process at once when it is gone."""
    parent = mp.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
