"""What is remembered of our own attempts."""

import pytest
from tests.unit.core import offering

from bareboat.core import history, machines

KEY = machines.key(offering.GOOD)


def test_a_machine_never_tried_is_in_the_middle() -> None:
    assert history.History().score(KEY, 0.0) == 0.5


def test_good_and_bad_attempts_move_the_score_both_ways() -> None:
    past = history.History()
    past.note(offering.GOOD, good=True, now_s=0.0)
    assert past.score(KEY, 0.0) == pytest.approx(2 / 3)
    past.note(offering.GOOD, good=False, now_s=0.0)
    past.note(offering.GOOD, good=False, now_s=0.0)
    assert past.score(KEY, 0.0) == pytest.approx(2 / 5)


def test_old_attempts_fade_towards_the_middle() -> None:
    past = history.History(half_life_s=100)
    past.note(offering.GOOD, good=False, now_s=0.0)
    scores = [past.score(KEY, at_s) for at_s in (0.0, 100.0, 1000.0, 100_000.0)]
    assert scores == sorted(scores)
    assert scores[-1] == pytest.approx(0.5, abs=1e-6)


def test_memory_is_bounded_and_the_one_heard_of_longest_ago_goes_first() -> None:
    past = history.History(most=2)
    for name in ("1", "2", "1", "3"):
        past.note(offering.an_offer(id=name), good=True, now_s=0.0)
    assert len(past) == 2
    assert past.score(("vast", "m2"), 0.0) == 0.5
    assert past.score(("vast", "m1"), 0.0) > 0.5
