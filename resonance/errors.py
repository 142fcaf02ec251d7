"""The errors a person may see: one sentence that names the bad value, what was expected, and what to do."""


class ResonanceError(Exception):
    """Something the user can put right; printed as one line, without a traceback, with exit code 2.

    A subclass for what went wrong while a command ran, and not with what it was given, sets `exit_code` to 1.
    """

    exit_code = 2
