"""The one error that means "the input is wrong", as against "the program is"."""


class InputError(ValueError):
    """A value from outside is unusable; its message says which, why and the remedy.

    Launch files print the message on one line and exit with code 2; any other
    exception is a defect and keeps its traceback.
    """


class ProcessError(RuntimeError):
    """Another process of a search on several has ended, and this one cannot go on."""
