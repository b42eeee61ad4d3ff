"""Errors that a user can act on, one class a kind."""


class UserError(Exception):
    """A mistake that the user can fix: one line that names the field, the value and the remedy.

    The command line prints the line and exits with code 2; no traceback is shown.
    """


class SettingsError(UserError):
    """An option, a setting or an output path is wrong."""


class DataError(UserError):
    """DATA, its split or an image is missing, damaged or doesn't fit."""


class ModelError(UserError):
    """MODEL is missing, damaged, of an unknown kind, or doesn't do what is asked."""


class HubError(UserError):
    """The Hub, or the way to it, refuses; or a repository's name is wrong."""
