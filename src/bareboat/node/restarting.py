"""When a container that ended starts again: 10 s doubling to 300 s, from the start again after ten good minutes.

Pure. The wait outlives this process: a pod's status holds all that it is counted from.
"""

from bareboat.workload import pod as pods
from bareboat.workload import status as statuses

FIRST_S, LONGEST_S, RESET_S = 10.0, 300.0, 600.0
BACK_OFF = "CrashLoopBackOff"


def pause_s(restarts: int, ran_s: float | None) -> float:
    """Before the next start, after `restarts` of them; `ran_s` is how long it ran, if it did."""
    if ran_s is not None and ran_s >= RESET_S:
        return FIRST_S
    return float(min(LONGEST_S, FIRST_S * 2 ** min(max(restarts, 0), 10)))


def not_before_s(told: pods.ContainerStatus, now_s: float) -> float:
    """The moment until which a container of that status waits for its next start; 0 when it waits for nothing, and
    never further off than the longest pause: a status can be edited."""
    last = told.last_state.terminated
    if told.state.waiting is None or told.state.waiting.reason != BACK_OFF or last is None:
        return 0.0
    ended_s, started_s = statuses.unix_s(last.finished_at), statuses.unix_s(last.started_at)
    if ended_s is None:
        return 0.0
    ran_s = None if started_s is None else ended_s - started_s
    return min(ended_s, now_s) + pause_s(told.restart_count - 1, ran_s)  # the count is of starts, this one included
