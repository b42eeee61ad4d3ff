"""A small Hub on 127.0.0.1 for the tests: real HTTP, storage, commits, tokens and failures."""

from hub.server import Hub, client_environment
from hub.storage import Entry, Refused, Repo, Storage, User

__all__ = ["Entry", "Hub", "Refused", "Repo", "Storage", "User", "client_environment"]
