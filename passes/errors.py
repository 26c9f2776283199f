"""The errors mcc shows to people: one line each, where, what, and the way out."""


class UserError(Exception):
    """The user's input is wrong (exit code 2). `problems` has one line per mistake; all are shown."""

    def __init__(self, *problems: str):
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class PassFailed(Exception):
    """A pass could not finish or diverged (exit code 3). Says why and how to go on."""


class TargetError(Exception):
    """The target cannot be reached or built for (exit code 4). Says what is missing and how to get it."""
