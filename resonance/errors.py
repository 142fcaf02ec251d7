"""The errors a person may see: one sentence that names the bad value, what was expected, and what to do."""

import traceback
from pathlib import Path


class ResonanceError(Exception):
    """Something the user can put right; printed as one line, without a traceback, with exit code 2.

    A subclass for what went wrong while a command ran, and not with what it was given, sets `exit_code` to 1.
    """

    exit_code = 2


def error_location(error: BaseException) -> str:
    """The files and lines of an error's traceback, innermost first, for a log.

    A log takes this in place of the message, because a message may repeat what a client sent.
    """
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
