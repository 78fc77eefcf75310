"""What a network address counts as, wherever addresses are counted."""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address


@lru_cache(maxsize=4096)
def address_key(address: str) -> str:
    """IPv4 by itself, also when written as IPv6; IPv6 by its /64.

    A subscriber has all the 2**64 addresses of at least one /64 (RFC 6177), so a count of each would be none. What is
    no address, such as the path of a socket or a keyed hash, counts as it is: where addresses are pseudonymised, each
    IPv6 address stands for itself.
    """
    if ":" not in address:
        return address
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"
