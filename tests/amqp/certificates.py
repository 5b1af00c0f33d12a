"""Certificates of a test's own authority, made by the `openssl` program in a folder of the test's."""

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.waiting import on_ci


class Authority:
    """Signs certificates; `ca` is the file to trust it by."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            message = "the `openssl` program is not installed: TLS is not tested"
            pytest.fail(message) if on_ci() else pytest.skip(message)
        self._folder = folder
        self.ca = folder / "ca.pem"
        self._key = folder / "ca.key"
        self._make("req", "-x509", *_new_key(self._key), "-out", self.ca, "-subj", "/CN=test authority")

    def sign(self, name: str, *, password: str | None = None) -> tuple[Path, Path]:
        """A certificate for this host name, and its key."""
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        extensions = self._folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={'IP' if name[0].isdigit() else 'DNS'}:{name}\n")
        request = self._folder / f"{name}.csr"
        self._make("req", *_new_key(key, password), "-out", request, "-subj", f"/CN={name}")
        signing = ("-CA", self.ca, "-CAkey", self._key, "-CAcreateserial", "-extfile", extensions)
        self._make("x509", "-req", "-in", request, *signing, "-days", "30", "-out", certificate)
        return certificate, key

    def server(self, name: str) -> ssl.SSLContext:
        """What a server of that name shows."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.sign(name))
        return context

    def _make(self, *arguments: str | Path) -> None:
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


def _new_key(path: Path, password: str | None = None) -> tuple[str | Path, ...]:
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", path)
    return (*curve, "-nodes") if password is None else (*curve, "-passout", f"pass:{password}")
