"""Errors a user can cause and mend.

Every message is one sentence that says what is wrong, where, and what to do. The command line prints the
sentence alone, without a traceback; anything that is not a `BulbaError` is a fault of ours and keeps its traceback.
"""


class BulbaError(ValueError):
    """Base of every error that the user can mend."""

    exit_code = 2


class ConfigError(BulbaError):
    """A setting is unknown, impossible, or contradicts another one."""


class DataError(BulbaError):
    """A text file, a tokenizer or a token file cannot be used as it is."""


class CheckpointError(BulbaError):
    """A run folder or a checkpoint is missing, incomplete, or of another shape."""


class ExportError(BulbaError):
    """A checkpoint cannot become the file asked for, or the file does not behave as the checkpoint does."""


class UnsupportedError(BulbaError):
    """What is asked for cannot be had here: no such device, kernel or capability."""


class TrainingError(BulbaError):
    """Training began and could not end well: the loss is not a number, memory ran out, the last step is not saved."""

    exit_code = 1
