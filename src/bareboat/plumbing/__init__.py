"""No domain: supervised tasks, retry, rate limits, clock, logs, metrics."""
