import pytest
from hypothesis import given
from hypothesis import strategies as st

from fovsfe.service.clients import Connections, client_of, unmapped


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::FFFF:c000:0207", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("unknown", "unknown"),
        ("", ""),
    ],
)
def test_an_address_stands_for_a_client(address: str, client: str) -> None:
    assert client_of(address) == client


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
def test_all_addresses_of_a_subnet_are_one_client(address: object, host: int) -> None:
    other = type(address)(int(address) >> 64 << 64 | host)  # type: ignore[call-overload]
    if address.ipv4_mapped is None and other.ipv4_mapped is None:  # type: ignore[attr-defined]
        assert client_of(str(address)) == client_of(str(other))


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_the_same_over_ipv6(address: object) -> None:
    assert unmapped(f"::ffff:{address}") == client_of(f"::ffff:{address}") == client_of(str(address))


def test_connections_of_a_client_are_counted_until_they_close() -> None:
    connections = Connections(())
    assert [connections.opened(address) for address in ("::ffff:192.0.2.7", "192.0.2.7")] == [1, 2]
    assert connections.opened("2001:db8::1") == 1
    assert connections.opened("2001:db8::2") == 2
    connections.closed("192.0.2.7")
    assert connections.opened("192.0.2.7") == 2
    for _ in range(2):
        connections.closed("192.0.2.7")
        connections.closed("2001:db8::3")
    assert not connections._open  # who has gone takes no memory


def test_a_trusted_proxy_may_open_any_number() -> None:
    connections = Connections(("10.0.0.0/8", "2001:db8::1"))
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1"):
        assert [connections.opened(address) for _ in range(3)] == [0, 0, 0]
        connections.closed(address)
    assert connections.opened("11.1.2.3") == connections.opened("2001:db8::2") == 1
