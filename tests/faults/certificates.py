"""Certificates for a provider's TLS, good ones and bad ones, from an authority of the tests' own."""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = timedelta(days=1)
HERE = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


class Authority:
    """`file` is its own certificate, for those who are to trust it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "The tests' authority")])
        self.file = directory / "authority.pem"
        basic = x509.BasicConstraints(ca=True, path_length=None)
        certificate = self._certificate(self._name, self._key, days=1).add_extension(basic, critical=True)
        self.file.write_bytes(certificate.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *, host: x509.GeneralName = HERE, days: int = 1, trusted: bool = True) -> Path:
        """A file with a key and its certificate. It ends in so many days, and is self-signed if it is not `trusted`."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = self._certificate(subject, key, days=days, issuer=self._name if trusted else subject)
        builder = builder.add_extension(x509.SubjectAlternativeName([host]), critical=False)
        certificate = builder.sign(self._key if trusted else key, hashes.SHA256())
        file = self.directory / f"{name}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        return file

    def _certificate(self, subject, key, *, days: int, issuer=None) -> x509.CertificateBuilder:
        end = datetime.now(UTC) + days * DAY
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer or subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - 10 * DAY)
            .not_valid_after(end)
        )
