"""The one exception that means "the user can fix this": commands print its message alone, without a traceback."""


class UserError(Exception):
    """A wrong input, option or file; the message names the input, the reason and the fix in one line."""
