"""Certificates of a private authority, for tests of TLS."""

import ssl
from pathlib import Path

import trustme


def write_pems(directory: Path) -> None:
    """Write the certificates of an authority, a server and a client, and of an unrelated authority."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(directory / "server.pem")
    client = authority.issue_cert("suite@example.com")
    client.cert_chain_pems[0].write_to_path(directory / "client.pem")
    client.private_key_pem.write_to_path(directory / "client.key")
    trustme.CA().cert_pem.write_to_path(directory / "other.pem")


def server_context(pems: Path, *, client: bool = False) -> ssl.SSLContext:
    """Return the TLS settings of a server; `client` makes it require a client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pems / "server.pem")
    if client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(pems / "ca.pem")
    return context
