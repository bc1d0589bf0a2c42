"""The one exception that means "the user can mend this": commands print its message alone, without a traceback."""


class UserError(Exception):
    """A wrong input, option or file; the message names the input, the reason and the mend in one line."""
