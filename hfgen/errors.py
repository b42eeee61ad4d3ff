"""Errors that a user can act on."""


class UserError(Exception):
    """A mistake that the user can mend: one line that names the field, the value and the remedy.

    The command line prints the line and exits with code 2; no traceback is shown.
    """
