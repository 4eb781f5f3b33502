"""Mistakes that a user can mend. Anything else that is raised is a bug and stays loud."""


class DistillError(Exception):
    """A mistake with a message for the person who made it: what was wrong, its value, and the remedy."""


class ConfigError(DistillError):
    """A setting that cannot be used."""


class DataError(DistillError):
    """Text or labels that cannot be used."""


class RunError(DistillError):
    """A run that does not exist or is not in the state that was asked for."""


class LimitError(DistillError):
    """More than a limit of this lab allows."""


class Cancelled(Exception):
    """Raised inside a run at the next batch after somebody asked it to stop."""


class Interrupted(Exception):
    """Raised inside a run that has to end before its time and may go on from its last checkpoint."""
