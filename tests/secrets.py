"""Looking for planted secrets in whatever a program has written."""

import base64
import json
from collections.abc import Iterable, Mapping
from urllib.parse import quote, quote_plus


def spellings(secret: str) -> set[str]:
    """Return the ways in which a text can give a secret away.

    In base64 three characters stand for two bytes and a bit more, so how a secret is spelt depends
    on where it begins; what does not depend on what stands around it is returned.
    """
    content = secret.encode()
    found = {
        secret,
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        content.hex(),
    }
    for before in range(3):
        shifted = b"\0" * before + content
        whole = len(shifted) - len(shifted) % 3
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            # The first group holds bytes of what comes before, the last of what comes after.
            found.add(encode(shifted[:whole]).decode()[4 if before else 0 :])
    return found


def given_away(secrets: Mapping[str, str], texts: Iterable[str | bytes]) -> list[str]:
    """Name each secret found in one of the texts, with its context; empty when all are kept."""
    found = []
    for text in texts:
        shown = text if isinstance(text, str) else text.decode(errors="replace")
        for name, secret in secrets.items():
            positions = [index for it in spellings(secret) if (index := shown.find(it)) >= 0]
            found += [f"{name} in: {shown[max(0, index - 200) : index]!r}" for index in positions]
    return found
