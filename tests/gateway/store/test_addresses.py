"""What an address counts as."""

import pytest

from gateway.store.addresses import address_key


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8:0:0:ffff::1", "2001:db8::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("/run/gateway.sock", "/run/gateway.sock"),
        ("not:an:address", "not:an:address"),
        ("a:b", "a:b"),
        ("~Zm9vYmFy", "~Zm9vYmFy"),
    ],
)
def test_an_address_counts_as_what_one_subscriber_has(address: str, key: str) -> None:
    """IPv6 by its /64, IPv4 by itself, anything else as it is."""
    assert key == address_key(address)
