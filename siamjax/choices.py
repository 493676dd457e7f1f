"""Looks up a configured name in a table of choices; the one place where such names are refused."""


def choose(key: str, name: str, table: dict):
    """Returns `table[name]`; `key` is the configuration key that holds `name`.

    Raises:
      ValueError: `name` is not in the table; the message lists what is.
    """
    if name not in table:
        raise ValueError(f"{key}={name!r} is not known; choose one of {', '.join(map(str, sorted(table)))}")
    return table[name]
