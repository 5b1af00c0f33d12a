"""Durations and sizes as the file writes them, to seconds and bytes. Nothing else."""

import re

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
# As people spell them; "m" is minutes and "M" could be months, which is not for us to guess in a valid file.
_SPELLINGS = {
    "ms": ("ms", "msec", "msecs", "millisecond", "milliseconds"),
    "s": ("s", "sec", "secs", "second", "seconds"),
    "m": ("m", "min", "mins", "minute", "minutes"),
    "h": ("h", "hr", "hrs", "hour", "hours"),
    "d": ("d", "day", "days"),
}
_QUANTITY = re.compile(r"([0-9.]+)([A-Za-z]+)\s*")


def seconds(text: str) -> float:
    """`5s` is 5.0. The schema has made sure of the form."""
    number, unit = _parts(text)
    return round(float(number) * _SECONDS[unit], 6)


def milliseconds(text: str) -> int:
    return round(seconds(text) * 1000)


def size(text: str) -> int:
    """`16MiB` is 16,777,216 bytes."""
    number, unit = _parts(text)
    return int(number) * _BYTES[unit]


def is_duration(text: object) -> bool:
    found = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    return bool(found and re.fullmatch(r"[0-9]+(\.[0-9]+)?", found[1]) and found[2] in _SECONDS)


def meant_duration(text: str) -> str | None:
    """`5 sec` and `1h30m` in the one way a duration is written; None for what cannot be meant as one."""
    parts = re.findall(r"([0-9]+)\s*([A-Za-z]+)", text)
    units = [next((unit for unit, names in _SPELLINGS.items() if name.casefold() in names), None) for _, name in parts]
    rest = re.sub(r"[0-9]+\s*[A-Za-z]+", "", text)
    if not parts or None in units or rest.strip(" ,"):
        return None
    return spoken(sum(int(number) * _SECONDS[unit] for (number, _), unit in zip(parts, units, strict=True) if unit))


def is_size(text: object) -> bool:
    found = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    return bool(found and found[1].isdigit() and found[2] in _BYTES)


def spoken(text_seconds: float) -> str:
    """Seconds as a file would write them: 2700.0 is `45m`."""
    for unit in ("d", "h", "m", "s"):
        count = text_seconds / _SECONDS[unit]
        if count >= 1 and count == int(count):
            return f"{int(count)}{unit}"
    return f"{round(text_seconds * 1000)}ms"


def _parts(text: str) -> tuple[str, str]:
    found = _QUANTITY.fullmatch(text)
    if not found:
        raise ValueError(f"not a quantity: {text!r}")
    return found[1], found[2]
