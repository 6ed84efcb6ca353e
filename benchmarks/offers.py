"""20,000 offers filtered and ranked, and a burst of workloads choosing from one look: `python -m benchmarks.offers`.

Synthetic offers from a seed. `ms` is the median of a cold ranking of a common request: nothing cached between rounds.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence

from bareboat.core import blacklist, matching, needs, offers, ranking

GPUS = (
    ("RTX 3060", 12.0, 5.9, 0.06),
    ("RTX 3090", 24.0, 14.1, 0.16),
    ("RTX 4090", 23.99, 40.0, 0.33),
    ("RTX 5090", 31.84, 60.0, 0.49),
    ("RTX A6000", 47.99, 20.0, 0.41),
    ("L40S", 44.99, 45.0, 0.56),
    ("A100 SXM4", 80.0, 60.0, 0.84),
    ("H100 SXM", 79.65, 190.0, 2.2),
    ("Tesla V100", 16.0, 9.0, 0.09),
)
REGIONS = ("US-CA", "US-TX", "US-NY", "US-UT", "CA-QC", "SE", "PL", "NL", "IS", "JP", "UA", None)


def synthetic(count: int, seed: int = 7) -> list[offers.Offer]:
    """Offers of boxes with up to eight GPUs, several offers to a box."""
    draw = random.Random(seed)
    made = []
    for number in range(count):
        name, memory_gib, speed, usd = draw.choice(GPUS)
        gpus = draw.choice((1, 1, 1, 2, 2, 4, 8))
        made.append(
            offers.Offer(
                cloud="vast",
                id=str(30_000_000 + number),
                gpu_name=name,
                gpu_count=gpus,
                usd_per_hour=usd * gpus * draw.uniform(0.8, 1.7),
                gpu_memory_gib=memory_gib,
                machine_id=str(50_000 + number // 3),
                host_id=str(8_000 + number // 20),
                spot_usd_per_hour=usd * gpus * draw.uniform(0.4, 0.8),
                usd_per_gib_month=draw.uniform(0.08, 0.3),
                cpu_cores=float(draw.choice((4, 8, 16, 32))),
                memory_gib=float(draw.choice((16, 32, 64, 128))),
                disk_gib=draw.uniform(20, 2000),
                region=draw.choice(REGIONS),
                reliability=draw.uniform(0.85, 1.0),
                verified=draw.random() < 0.85,
                datacenter=draw.random() < 0.25,
                inet_up_mbps=draw.uniform(20, 2000),
                inet_down_mbps=draw.uniform(50, 5000),
                cuda=draw.choice((12.2, 12.4, 12.8, 13.0)),
                performance=speed * gpus * draw.uniform(0.9, 1.1),
                ports=draw.choice((0, 3, 99, 500)),
                address=f"203.0.113.{number % 250}",
                duration_s=draw.uniform(0, 60) * 86_400,
            )
        )
    return made


CASES = {
    "common: one of two GPUs, price, ports, disk": needs.Needs(
        gpu_names=("RTX 4090", "RTX 3090"), max_usd_per_hour=0.45, disk_gib=40, ports=2
    ),
    "any GPU with 16 GiB, price": needs.Needs(gpu_memory_gib=16, max_usd_per_hour=0.6),
    "everything passes": needs.Needs(
        gpu_count=0, disk_gib=0, verified_only=False, min_reliability=0, min_inet_down_mbps=0, min_duration_s=0
    ),
    "nothing passes": needs.Needs(gpu_names=("RTX 4O90",), max_usd_per_hour=0.01),
}


def median_ms(work: Callable[[], object], rounds: int) -> float:
    figures = []
    for _ in range(rounds):
        start_s = time.perf_counter()
        work()
        figures.append((time.perf_counter() - start_s) * 1000)
    return statistics.median(figures)


def burst_ms(several: Sequence[offers.Offer], count: int) -> float:
    """Milliseconds for each of `count` workloads that one after the other take the next offer of one ranking."""

    def choose() -> None:
        made = ranking.rank(several, CASES["any GPU with 16 GiB, price"])
        for place in range(count):
            chosen = made.ranked[place % len(made.ranked)]
            assert chosen.machine

    return median_ms(choose, 5) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--n", type=int, default=20_000, help="offers")
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    several = synthetic(asked.n)
    bans = blacklist.Blacklist()
    for offer in several[:: max(1, asked.n // 50)]:
        bans.ban(offer, "synthetic", 0.0)
    situation = matching.Situation(1.0, bans, {f"203.0.113.{part}": part / 2 for part in range(0, 250, 4)})
    print(f"{asked.n} offers, median of {asked.rounds} rounds")
    print(f"{'case':<52}{'pass':>7}{'ms':>9}")
    figures = {}
    for name, wanted in CASES.items():
        figures[name] = median_ms(lambda wanted=wanted: ranking.rank(several, wanted), asked.rounds)  # type: ignore[misc]
        print(f"{name:<52}{len(ranking.rank(several, wanted).ranked):>7}{figures[name]:>9.1f}")
    common = CASES["common: one of two GPUs, price, ports, disk"]
    with_more = median_ms(lambda: ranking.rank(several, common, situation=situation), asked.rounds)
    print(f"{'common, with 50 bans and 63 measured round trips':<52}{'':>7}{with_more:>9.1f}")
    five_hundred = several[:500]
    once = median_ms(lambda: ranking.rank(five_hundred, CASES["any GPU with 16 GiB, price"]), 50)
    each = burst_ms(five_hundred, 1000)
    print(f"{'500 offers ranked once':<52}{'':>7}{once:>9.2f}")
    print(f"{'1,000 workloads sharing that ranking, each':<52}{'':>7}{each:>9.4f}")
    print(
        json.dumps(
            {
                "ms": round(next(iter(figures.values())), 1),
                "worst_ms": round(max(*figures.values(), with_more), 1),
                "offers": asked.n,
                "rank_500_ms": round(once, 2),
                "burst_choice_ms": round(each, 4),
            }
        )
    )


if __name__ == "__main__":
    main()
