"""How the tests log: to whatever standard output is at the moment, since a command that a test runs in this process
sets up logging to a stream that is closed after it. Without the values of local variables, which take seconds to print
at each crash that a random play provokes."""

from collections.abc import Iterator

import pytest
import structlog


def _configure() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ],
        wrapper_class=structlog.BoundLogger,
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=False,
    )


_configure()


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    yield
    _configure()
