"""Errors for people: one sentence that names the bad value, what was expected, and what to do."""

import traceback
from pathlib import Path


class ResonanceError(Exception):
    """An error that the user can fix; the command line prints one line without a traceback, and exits with code 2.

    A subclass for a failure at run time, as opposed to bad input, sets `exit_code` to 1.
    """

    exit_code = 2


def error_location(error: BaseException) -> str:
    """The files and lines of an error's traceback, innermost first, for a log.

    A log takes this in place of the message, because a message may repeat what a client sent.
    """
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
