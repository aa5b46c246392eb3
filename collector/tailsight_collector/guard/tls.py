"""TLS of the ports: a certificate, its key, and with a client CA also the clients' certificates. TLS 1.2 or newer."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailsight_collector.errors import SettingsError

_NO_PASSWORD = "the key is encrypted, and nobody is there to type its password"  # noqa: S105  it says that there is none


@dataclass(frozen=True, slots=True)
class Tls:
    """The files, in PEM. With `client_ca` a client must show a certificate that this CA has signed."""

    cert: Path
    key: Path
    client_ca: Path | None = None

    @classmethod
    def of(cls, cert: Path | None, key: Path | None, client_ca: Path | None) -> Tls | None:
        """Make it of what a user gave, None where that is nothing; raises SettingsError where something is missing."""
        if cert is None and key is None and client_ca is None:
            return None
        if cert is None or key is None:
            given = "--tls-client-ca" if cert is None and key is None else "--tls-cert" if cert else "--tls-key"
            raise SettingsError(f"{given} alone is not enough: TLS takes --tls-cert and --tls-key together")
        return cls(cert, key, client_ca)

    def context(self) -> ssl.SSLContext:
        """Return what HTTP ports shake hands with; raises SettingsError, which names the file at fault."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        for option, file in (("--tls-cert", self.cert), ("--tls-key", self.key), ("--tls-client-ca", self.client_ca)):
            if file is not None:
                _read(option, file)
        try:
            context.load_cert_chain(self.cert, self.key, password=_refuse_password)
        except SettingsError as error:
            raise SettingsError(f"--tls-key {self.key}: {error}; write it out with `openssl pkey`") from None
        except (ssl.SSLError, ValueError) as error:
            raise SettingsError(self._what_is_wrong(error)) from None
        if self.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            try:
                context.load_verify_locations(self.client_ca)
            except ssl.SSLError:
                raise SettingsError(f"--tls-client-ca {self.client_ca} holds no certificate in PEM") from None
        return context

    def grpc_credentials(self) -> Any:
        """Return the same for gRPC; raises SettingsError, as gRPC itself would only say that it cannot listen."""
        import grpc  # type: ignore[import-untyped]

        self.context()
        client_ca = _read("--tls-client-ca", self.client_ca) if self.client_ca else None
        return grpc.ssl_server_credentials(
            [(_read("--tls-key", self.key), _read("--tls-cert", self.cert))],
            root_certificates=client_ca,
            require_client_auth=client_ca is not None,
        )

    def _what_is_wrong(self, error: Exception) -> str:
        reason = getattr(error, "reason", None)
        if reason == "KEY_VALUES_MISMATCH":
            return f"--tls-key {self.key} is not the key of --tls-cert {self.cert}; give the pair that belongs together"
        if reason == "EE_KEY_TOO_SMALL":
            return f"--tls-cert {self.cert}: its key is too small for TLS today; use RSA with 2048 bits, or ECDSA"
        if not _holds(self.cert, "CERTIFICATE"):
            return f"--tls-cert {self.cert} holds no certificate in PEM (-----BEGIN CERTIFICATE-----)"
        if not _holds(self.key, "PRIVATE KEY"):
            return f"--tls-key {self.key} holds no key in PEM (-----BEGIN PRIVATE KEY-----)"
        return f"--tls-cert {self.cert} and --tls-key {self.key} cannot be used: {reason or error}"


def _read(option: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingsError(f"{option} {file} cannot be read: {error.strerror}") from None


def _holds(file: Path, what: str) -> bool:
    return f"{what}-----".encode() in file.read_bytes()


def _refuse_password() -> str:
    raise SettingsError(_NO_PASSWORD)
