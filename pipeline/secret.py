"""Values that do not print themselves, and a mask for texts that may hold one.
Knows nothing of where secrets come from: the configuration registers them, everybody who prints masks."""

import re
from collections.abc import Iterable
from urllib.parse import quote

MASK = "***"

# A shorter one would be found inside ordinary words, and what everybody knows is no secret: masked they would only make
# lines unreadable. In a URL every password is masked.
_SHORTEST = 4
_KNOWN_TO_ALL = ("guest",)

# amqp://user:password@host: from the first colon of the authority to the last "@" of the word. A password that was not
# percent-encoded as it should be may hold a "/" or "@" itself, and it is masked all the same. `${NAME}` is no secret.
_URL_PASSWORD = re.compile(r'(\b[a-zA-Z][a-zA-Z0-9+.-]{0,20}://[^\s/:@"]*:)(?!\$\{[^{}\s]*\}@)([^\s"]+)(?=@)')


class Secret:
    """A text that shows as `***` wherever it is printed. `reveal` gives the text itself."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


class Masker:
    """Replaces known secrets, and the password of any URL, in a text. Safe to call from any thread."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._pattern: re.Pattern[str] | None = None
        self._words: set[str] = set()
        self.learn(secrets)

    def learn(self, secrets: Iterable[Secret]) -> None:
        """Mask these from now on, also where they stand percent-encoded or as a repr."""
        for secret in secrets:
            value = secret.reveal()
            if len(value.strip()) >= _SHORTEST and value not in _KNOWN_TO_ALL:
                self._words |= {value, quote(value, safe=""), repr(value)[1:-1]}
        # The longest first: a secret may be the beginning of another one.
        words = sorted(self._words, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, words))) if words else None

    def __call__(self, text: str) -> str:
        if "://" in text:
            text = _URL_PASSWORD.sub(rf"\g<1>{MASK}", text)
        return self._pattern.sub(MASK, text) if self._pattern else text
