"""Make the certificates by which the hosts of a run authenticate each other.

The authority is made for one attempt of one run, or one copy of a data set, and its key is discarded at
once, so that nobody can join later.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ..spec.model import Job

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import CertificateBuilder

#: How far behind a host's clock may be.
EARLIER = timedelta(days=2)
#: No run takes longer.
LATER = timedelta(days=3650)


def introduce(hosts: Sequence[str], job: Job) -> dict[str, dict[str, Any]]:
    """Return for each host what its agent needs to join the others; the first is the head node.

    It includes the names of secrets, so that the head node can hide them from a framework's own
    launcher, which would pass them on as arguments.
    """
    shared = {"head": hosts[0], "secrets": sorted(job.secrets), "grace": job.grace}
    return {host: {**shared, **found} for host, found in certify(hosts).items()}


def certify(hosts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return for each host a certificate of its own, its key, and the authority of them all."""
    from cryptography import x509  # slow to import, and most runs do not need it
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    authority_key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "one run of launcher")])
    authority = (
        _certificate(issuer, issuer, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(_key_id(authority_key), critical=False)
    )
    shared = {"hosts": list(hosts), "authority": _sign(authority, authority_key)}
    found = {}
    for host in hosts:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _certificate(x509.Name([]), issuer, key)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
                critical=False,
            )
        )
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        found[host] = {
            **shared,
            "host": host,
            "certificate": _sign(builder, authority_key),
            "key": private.decode("ascii"),
        }
    return found


def _certificate(subject: Any, issuer: Any, key: EllipticCurvePrivateKey) -> CertificateBuilder:
    from cryptography import x509

    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + LATER)
    )


def _usage(signs: bool) -> Any:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_id(key: EllipticCurvePrivateKey) -> Any:
    from cryptography import x509

    return x509.SubjectKeyIdentifier.from_public_key(key.public_key())


def _sign(builder: CertificateBuilder, key: EllipticCurvePrivateKey) -> str:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding

    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode("ascii")
