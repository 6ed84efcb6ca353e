"""`bareboat proxy` under load for a minute while its template is edited, its instance dies and its address changes:
requests that failed and how, what nginx adds, how long a reload takes, memory.

Simulated Vast, real nginx and Redis, one computer for all. Last line: one JSON object.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.e2e import proxy_load


async def main(seconds: float, rate_per_s: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        figures = await proxy_load.measure(Path(folder), seconds, rate_per_s)
    told = figures.document()
    for name, value in told.items():
        print(f"{name:<30}{value if not isinstance(value, dict) else ''}")
        for what, count in value.items() if isinstance(value, dict) else ():
            print(f"  {what:<40}{count:>8}")
    print(json.dumps({"benchmark": "proxy", **told}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=float, default=60.0, help="seconds")
    parser.add_argument("--rate", type=float, default=230.0, help="GET requests a second")
    given = parser.parse_args()
    asyncio.run(main(given.n, given.rate))
