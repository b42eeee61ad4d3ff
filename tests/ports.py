"""A port to serve on."""

import secrets
import socket


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
