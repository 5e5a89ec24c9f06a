"""Who counts as one client: for the limit of uploads a minute, and for that of open connections."""

import ipaddress
from collections import Counter
from collections.abc import Iterable


def unmapped(address: str) -> str:
    """Returns the IPv4 address in an IPv6 one such as ::ffff:192.0.2.1, and any other text as it is.

    So a client has one address, whether or not the service listens on IPv6 as well.
    """
    try:
        mapped = ipaddress.IPv6Address(address).ipv4_mapped
    except ValueError:
        return address
    return address if mapped is None else str(mapped)


def client_of(address: str) -> str:
    """Returns the client that an address stands for: itself, or of an IPv6 address its /64.

    A /64 is the least that one customer gets, so it would give each as many addresses as they like. Text that
    is no address, which a proxy may have written, is a client as it is.
    """
    try:
        found = ipaddress.ip_address(unmapped(address))
    except ValueError:
        return address
    if found.version == 4:
        return str(found)
    return str(ipaddress.ip_network((int(found), 64), strict=False))


class Connections:
    """Counts the open connections of each client, but not those of trusted proxies, which bring many."""

    def __init__(self, proxies: Iterable[str]) -> None:
        """`proxies`: addresses or networks."""
        self._proxies = [ipaddress.ip_network(proxy) for proxy in proxies]
        self._open: Counter[str] = Counter()

    def opened(self, address: str) -> int:
        """Counts a connection from `address`; returns how many its client has now, 0 for a proxy's."""
        if self._is_proxy(address):
            return 0
        client = client_of(address)
        self._open[client] += 1
        return self._open[client]

    def closed(self, address: str) -> None:
        """Counts a connection that was opened before as closed."""
        client = client_of(address)
        if self._open[client] <= 1:
            del self._open[client]
        else:
            self._open[client] -= 1

    def _is_proxy(self, address: str) -> bool:
        if not self._proxies:
            return False
        try:
            found = ipaddress.ip_address(unmapped(address))
        except ValueError:
            return False
        return any(found in proxy for proxy in self._proxies)
