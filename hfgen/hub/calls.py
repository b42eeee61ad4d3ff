"""One call to the Hub: repeated where it may succeed later, explained where it doesn't; no token is ever shown."""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

logger = logging.getLogger("hfgen")

ATTEMPTS = 5
_TRANSIENT = (408, 409, 412, 425, 429, 500, 502, 503, 504)
_TOKEN = re.compile(r"\b(?:hf_|api_org_)[A-Za-z0-9]{20,}|\bhf_oauth_[\w.-]{20,}")

Result = TypeVar("Result")


def retried(
    call: Callable[[], Result], wait: float = 1.0, attempts: int = ATTEMPTS, *, unreachable: bool = True
) -> Result:
    """Call until the Hub answers; calling twice must do no harm.

    Args:
        call: What to do.
        wait: Seconds before the first retry; they double.
        attempts: How often to call at most.
        unreachable: Also where no answer came.

    Raises:
        Exception: what the last attempt raised, one of `failures()`.
    """
    for attempt in range(attempts):
        try:
            return call()
        except failures() as error:
            again = is_transient(error) and (unreachable or not is_unreachable(error))
            if not again or attempt == attempts - 1:
                raise
            seconds = wait * 2**attempt * random.uniform(0.75, 1.25)
            logger.warning("the Hub failed (%s); again in %.0f s", reason(error), seconds)
            time.sleep(seconds)
    raise AssertionError("the last attempt returns or raises")


def redacted(text: str) -> str:
    """Text without access tokens."""
    from huggingface_hub import get_token

    token = get_token()
    return _TOKEN.sub("hf_***", text.replace(token, "hf_***") if token else text)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised from: uploads are wrapped."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def status(error: Exception) -> int | None:
    """The HTTP status that the Hub answered with; None: it gave no answer."""
    for cause in causes(error):
        code = getattr(getattr(cause, "response", None), "status_code", None)
        if code is not None:
            return code
    return None


def is_transient(error: Exception) -> bool:
    """Whether the same call may succeed later, on top of the new head."""
    code = status(error)
    return is_unreachable(error) if code is None else code in _TRANSIENT


def is_unreachable(error: Exception) -> bool:
    """Whether no answer came, for another reason than offline mode."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    kinds = (_transport_error(), ConnectionError, TimeoutError)
    found = (isinstance(cause, kinds) and not isinstance(cause, OfflineModeIsEnabled) for cause in causes(error))
    return status(error) is None and any(found)


def failures() -> tuple[type[Exception], ...]:
    """What huggingface_hub raises where the Hub or the network fails."""
    return (OSError, ValueError, RuntimeError, _transport_error())


def _transport_error() -> type[Exception]:
    """The HTTP client's own base of errors: huggingface_hub uses httpx in 1.x and httpx2 in 2.x."""
    from huggingface_hub.errors import HfHubHTTPError

    return next(cls for cls in HfHubHTTPError.__mro__ if cls.__name__ == "HTTPError")


def reason(error: Exception) -> str:
    """One line without token or address."""
    code = status(error)
    said = [message for cause in causes(error) if (message := getattr(cause, "server_message", None))]
    texts = said[-1:] or [str(cause) for cause in causes(error)]
    first = next((line for text in texts for line in text.splitlines() if line.strip()), type(error).__name__)
    line = " ".join(redacted(re.sub(r"(?: for url:?)? *'?https?://\S+", "", first)).split())[:200]
    return f"{code}: {line}" if code is not None and str(code) not in line else line
