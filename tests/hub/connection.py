"""The loopback Hub's connections: bodies, answers, tokens, and the faults that tests ask for."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, unquote

from hub.storage import Refused, User

if TYPE_CHECKING:
    from hub.server import Hub

BLOCK = 1 << 16


class Handler(BaseHTTPRequestHandler):
    """One connection: its requests are answered by the first of `routes` that fits, unless a fault strikes."""

    protocol_version = "HTTP/1.1"
    routes: ClassVar[list[tuple[tuple[str, ...], str, Callable[..., Any]]]] = []

    def __init__(self, hub: Hub, *arguments: Any) -> None:
        self.hub, self.storage = hub, hub.storage
        super().__init__(*arguments)

    def handle_request(self) -> None:
        path, _, query = self.path.partition("?")
        self.path_only, self.query = unquote(path), parse_qs(query)
        request = f"{self.command} {self.path_only}"
        with self.storage.lock:
            self.hub.requests.append(request)
            self.fault = next((fault for fault in self.hub.faults if fault.strikes(request)), None)
        kind = self.fault.kind if self.fault else None
        if kind == "reset":
            return self.cut()
        if kind == "slow":
            time.sleep(1.5)
        self.body_read = False
        try:
            if isinstance(kind, int):
                raise Refused(kind, message=self.fault.message)
            self.user = self.authenticate()
            answered = self.route()
        except Refused as refused:
            self.drain()
            self.answer_json(refused.body, refused.status, self.error_headers(refused))
        else:
            self.drain()
            if answered is not None:
                self.answer_json(answered)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = handle_request

    def authenticate(self) -> User | None:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if not scheme:
            return None
        if token not in self.storage.users:
            raise Refused(401, message="Invalid credentials in Authorization header")
        return self.storage.users[token]

    def route(self) -> Any:
        for method, pattern, handler in self.routes:
            found = re.fullmatch(pattern, self.path_only)
            if self.command in method and found:
                return handler(self, **found.groupdict())
        raise Refused(404, message=f"no route for {self.command} {self.path_only}")

    # Bodies and answers.

    def blocks(self) -> Iterator[bytes]:
        """The request's body, whether its length is known or it comes in chunks."""
        self.body_read = True
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left and (block := self.rfile.read(min(BLOCK, left))):
            left -= len(block)
            yield block

    def body(self) -> bytes:
        return b"".join(self.blocks())

    def json(self) -> Any:
        return json.loads(self.body() or b"{}")

    def drain(self) -> None:
        if not self.body_read:
            for _ in self.blocks():
                pass

    def error_headers(self, refused: Refused) -> dict[str, str]:
        headers = {"X-Error-Code": refused.code, "X-Error-Message": refused.message}
        return {name: value for name, value in headers.items() if value}

    def answer_json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.answer(status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(value).encode())

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"", file: Any = None) -> None:
        """Send headers, and bytes or an open file of the length in them."""
        kind = self.fault.kind if self.fault else None
        if kind == "lost":
            return self.cut()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if kind == "truncated":
            self.wfile.write(file.read(int(headers["Content-Length"]) // 2) if file else body[: len(body) // 2])
            self.close_connection = True
        elif file is None:
            self.wfile.write(body)
        else:
            left = int(headers["Content-Length"])
            while left and (block := file.read(min(BLOCK, left))):
                self.wfile.write(block)
                left -= len(block)

    def cut(self) -> None:
        """Reset the connection."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, ValueError, OSError):
            super().handle()

    def log_message(self, format: str, *arguments: object) -> None:
        pass
