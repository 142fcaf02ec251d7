"""What a log says of an error that nobody foresaw: its kind and where it happened, never its words.

An error's words may repeat what a client has sent.
"""

import traceback
from pathlib import Path


def places(error: BaseException) -> str:
    """Files and lines of the error's traceback, the innermost first."""
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
