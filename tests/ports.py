"""A port to serve on, and whether somebody does."""

import secrets
import socket
import urllib.request


def free_port() -> int:
    """One below those that the system hands out itself, so that nobody is given it before it is used."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as free:
            try:
                free.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def answers(url: str) -> bool:
    """Whether a page is served there."""
    try:
        urllib.request.urlopen(url, timeout=5).read()
    except OSError:
        return False
    return True
