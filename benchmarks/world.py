"""The world of rooms: how many steps and how many pictures a second one core makes.

``python benchmarks/world.py --help`` tells what there is to choose. Each row is a call on a batch, repeated; a rate is
what the batch holds by the processor time of the call, the median of all repeats beside their range: so a busy machine
disturbs it little. The last row is one world behind gymnasium's interface in numpy, sixteen of them in gymnasium's own
vector, for comparison. Writes the table with its circumstances to ``benchmarks/results/world.json``; asserts nothing
about time.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from gymnasium.vector import SyncVectorEnv
from machine import machine

from ebm_lib.world import cross_room, draw_layouts, draw_mazes, draw_places, move, render, shortest, walks
from ebm_lib.world.environments import RoomsEnv, TwoRooms

RESULTS = Path(__file__).parent / "results" / "world.json"
REACH = 0.06


@dataclass
class Row:
    """One measurement.

    Args:
        what: the call.
        unit: what is counted.
        batch: how many a call makes.
        rate: of them in a second of processor, the median of all repeats.
        low: the lowest.
        high: the highest.
    """

    what: str
    unit: str
    batch: int
    rate: float
    low: float
    high: float


def measure(what: str, unit: str, batch: int, call: Callable[[], object], repeats: int, least: float = 0.2) -> Row:
    """Repeat a call for at least so many seconds, several times over."""
    call()
    rates = []
    for _ in range(repeats):
        begun, calls = time.process_time(), 0
        while (spent := time.process_time() - begun) < least:
            call()
            calls += 1
        rates.append(calls * batch / spent)
    row = Row(what, unit, batch, statistics.median(rates), min(rates), max(rates))
    print(f"{what:58}{batch:>8,}{row.rate:>14,.0f}  {row.low:>11,.0f} to {row.high:>11,.0f} {unit}", flush=True)
    return row


def main() -> None:
    """Measure all rows."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--repeats", type=int, default=7, metavar="N", help="repeats of each row")
    p.add_argument("--batch", type=int, default=4096, metavar="N", help="worlds at a time")
    args = p.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    facts = machine("torch", "gymnasium") | {"threads": torch.get_num_threads()}
    print(", ".join(f"{k} {v}" for k, v in facts.items()), flush=True)
    N, generator, rows = args.batch, torch.Generator().manual_seed(0), []
    two = draw_layouts(N, wall=(0.3, 0.7), door=(0.2, 0.8), generator=generator)
    nine = draw_mazes(N, 3, 3, generator=generator)

    def add(what: str, unit: str, batch: int, call: Callable[[], object]) -> None:
        rows.append(measure(what, unit, batch, call, args.repeats))

    action = REACH * torch.randn(N, 2, generator=generator)
    for name, layout in (("two rooms", two), ("a maze of 3 x 3 rooms", nine)):
        place = draw_places(layout, generator=generator)
        add(f"move, {name}", "steps", N, partial(move, place, action, layout))
    few = two.at(slice(16))
    film = draw_places(few, samples=(16,), generator=generator)
    own = two.at(slice(256))
    single = draw_places(own, generator=generator)
    for size in (28, 64):
        for name, place, layout in (
            ("films of one layout each", film, few),
            ("a layout for each picture", single, own),
        ):
            add(f"render at {size} pixels, {name}", "frames", 256, partial(render, place, layout, size=size))
    add("walks of 32 places, two rooms", "steps", 31 * N, lambda: walks(two, 32, generator=generator))
    start, goal = cross_room(two, distance=0.3, generator=generator)
    add("shortest ways, two rooms", "lengths", N, lambda: shortest(start, goal, two))
    many = TwoRooms(256)
    many.reset(seed=0)
    add("TwoRooms, step and observation", "steps", 256, lambda: many.step(action[:256]))
    several = SyncVectorEnv([RoomsEnv] * 16)
    several.reset(seed=0)
    array = action[:16].numpy()
    add("gymnasium's SyncVectorEnv of 16 RoomsEnv", "steps", 16, lambda: several.step(array))
    print("rates: a second of processor, one thread")
    RESULTS.parent.mkdir(exist_ok=True)
    result = {
        "command": " ".join(["python", "benchmarks/world.py", *sys.argv[1:]]),
        **facts,
        "rows": [asdict(r) for r in rows],
    }
    RESULTS.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
