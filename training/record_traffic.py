"""Record traffic with highway-env: what one driver sees, does, and sees next, in kinematic form.

    SDL_VIDEODRIVER=dummy python training/record_traffic.py  # writes training/results/traffic.npz and traffic.json

It needs highway-env 1.12, which nothing else here does. Three lanes of 4 m; the other cars follow IDM and MOBIL with
highway-env's constants and see the driver. The driver does as they do, and besides errs (noise that lasts about two
seconds on both controls), now and then wants another speed, and now and then changes lane for no reason (if the gap
there is at least 12 m both ways). Episodes are 20 s; one that ends in a crash keeps what came before.

The record is cut into windows of 2 s. Those who are the six nearest when a window begins are followed to its end, so
that car i is the same car at all eleven times of a window. Stored, in half precision, for n windows:

- own (n, 11, 3): distance from the road's middle (m, positive to the right), speed (m/s), heading (rad);
- cars (n, 11, 6, 5): how far ahead and how far to the right (m), how much faster ahead and to the right (m/s), and
  whether there is such a car at all (1 or 0; then the rest is 0);
- action (n, 10, 2): acceleration (m/s²), steering angle (rad), each held for 0.2 s;
- episode (n,): which windows are from one episode.
"""

import argparse
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from record import machine, write

RESULTS = Path(__file__).parent / "results" / "traffic"
WINDOWS, STEPS, NEIGHBOURS = 500, 10, 6
EPISODE, DT, SUBSTEPS = 10, 0.2, 2  # windows; seconds between actions; steps of the simulator
LANES, WIDTH, CARS, DENSITY = 3, 4.0, 40, 1.3
NOISE, MEMORY = (1.0, 0.006), 2.0  # standard deviations of acceleration and steering; seconds
WHIM, ROOM, SPEEDS = 0.03, 12.0, (18.0, 32.0)  # chance a step; metres; m/s
CONFIG = {"lanes_count": LANES, "vehicles_count": CARS, "vehicles_density": DENSITY}


def sight(ego: Any, others: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return the driver's own state (3,) and the cars' (6, 5)."""
    own = np.array([ego.position[1] - (LANES - 1) / 2 * WIDTH, ego.speed, ego.heading])
    cars = np.zeros((NEIGHBOURS, 5))
    for row, car in zip(cars, others, strict=False):
        row[:] = *(car.position - ego.position), *(car.velocity - ego.velocity), 1
    return own, cars


def whim(ego: Any, cars: list[Any], rng: np.random.Generator) -> None:
    """Now and then want another speed, or another lane if there is room."""
    if rng.random() < WHIM:
        ego.target_speed = rng.uniform(*SPEEDS)
    if rng.random() < WHIM:
        start, end, lane = ego.target_lane_index
        wanted = int(np.clip(lane + rng.choice([-1, 1]), 0, LANES - 1))
        beside = [c for c in cars if c is not ego and wanted in (c.lane_index[2], c.target_lane_index[2])]
        if all(abs(c.position[0] - ego.position[0]) > ROOM for c in beside):
            ego.target_lane_index = (start, end, wanted)


def episode(env: Any, driver: type, seed: int) -> tuple[list[tuple[np.ndarray, ...]], bool]:
    """Drive one episode; return its windows and whether it ended in a crash."""
    rng = np.random.default_rng(seed)
    env.reset(seed=seed)
    road = env.unwrapped.road
    ego = driver.create_from(road.vehicles[0])
    road.vehicles[0] = ego
    noise, windows = np.zeros(2), []
    for _ in range(EPISODE):
        near = sorted((c for c in road.vehicles if c is not ego), key=lambda c: np.hypot(*(c.position - ego.position)))
        states, actions = [sight(ego, near[:NEIGHBOURS])], []
        for _ in range(STEPS):
            whim(ego, road.vehicles, rng)
            keep = np.exp(-DT / MEMORY)
            noise = keep * noise + np.sqrt(1 - keep**2) * rng.normal(size=2) * NOISE
            ego.held, ego.noise = None, noise
            for _ in range(SUBSTEPS):
                road.act()
                road.step(DT / SUBSTEPS)
            states.append(sight(ego, near[:NEIGHBOURS]))
            actions.append(ego.held)
            if ego.crashed or abs(states[-1][0][0]) > LANES * WIDTH / 2:
                return windows, True
        windows.append((*(np.stack(part) for part in zip(*states, strict=True)), np.stack(actions)))
    return windows, False


def main() -> None:
    """Record until there are enough windows, and store them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--windows", type=int, default=WINDOWS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()

    sys.path.remove(str(Path(__file__).parent))  # or pandas, which highway-env imports, finds our bottleneck.py
    import gymnasium
    import highway_env  # noqa: F401, registers its worlds
    from highway_env.vehicle.behavior import IDMVehicle
    from highway_env.vehicle.kinematics import Vehicle

    class Driver(IDMVehicle):
        """A driver who errs: both controls are decided once for the time until the next action."""

        held, noise = None, (0.0, 0.0)

        def act(self, action: Any = None) -> None:
            if self.held is None:
                super().act()
                pull, turn = self.action["acceleration"] + self.noise[0], self.action["steering"] + self.noise[1]
                self.held = np.array([np.clip(pull, -6, 6), turn])
            Vehicle.act(self, {"acceleration": self.held[0], "steering": self.held[1]})

    begun = time.perf_counter()
    env = gymnasium.make("highway-v0", config=CONFIG)
    windows, episodes, crashes, seed = [], [], 0, args.seed * 100_000
    while len(windows) < args.windows:
        found, crashed = episode(env, Driver, seed)
        windows += found
        episodes += [seed % 100_000] * len(found)
        crashes += crashed
        seed += 1
    own, cars, action = (np.stack(part)[: args.windows].astype(np.float16) for part in zip(*windows, strict=True))
    arrays = {"own": own, "cars": cars, "action": action, "episode": np.array(episodes[: args.windows], np.int16)}
    facts = {
        "command": "SDL_VIDEODRIVER=dummy python training/record_traffic.py",
        "seed": args.seed,
        "seconds": round(time.perf_counter() - begun, 1),
        "transitions": args.windows * STEPS,
        "episodes": seed - args.seed * 100_000,
        "crashes": crashes,
        "highway-env": version("highway-env"),
        "gymnasium": version("gymnasium"),
        "numpy": np.__version__,
        **machine(),
    }
    print(write(args.out, arrays, facts), "bytes;", facts["seconds"], "s;", facts["episodes"], "episodes;", crashes)


if __name__ == "__main__":
    main()
