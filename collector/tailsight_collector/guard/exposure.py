"""Who can reach the ports, and whether they are asked who they are: decided before anything listens."""

from __future__ import annotations

import ipaddress
import socket

from tailsight_collector.errors import SettingsError


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address to listen on. A name is one if all its addresses are."""
    try:
        addresses = {host} if _is_address(host) else {str(found[4][0]) for found in socket.getaddrinfo(host or None, 0)}
    except OSError:
        return False
    return bool(host) and all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses)


def refuse_open_doors(host: str, *, asks_who: bool, insecure: bool) -> None:
    """Raise SettingsError where others than this machine would be let in without being asked."""
    if asks_who or insecure or is_loopback(host):
        return
    raise SettingsError(
        f"--host {host} can be reached from other machines, and nobody would be asked who they are: make a token with "
        "`tailsight token create --name NAME --scope ingest --file tokens.txt` and add --tokens tokens.txt, "
        "or --tls-client-ca with TLS; --insecure lets everybody in"
    )


def warning(host: str, *, has_tokens: bool, asks_who: bool, is_encrypted: bool) -> str:
    """Return what to say at the start about an address that others can reach; empty where all is well."""
    if is_loopback(host):
        return ""
    if not asks_who:
        return f"--insecure on {host}: everybody who reaches these ports can send, and read what was sent"
    if has_tokens and not is_encrypted:
        return (
            f"tokens on {host} without TLS: whoever listens on the network can read them and use them; "
            "give --tls-cert and --tls-key, or let a proxy before it do TLS"
        )
    return ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
