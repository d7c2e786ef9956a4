"""Who measures what, and what becomes of it: each machine type once, another node of the type where one fails.

Knows no cluster: an Engine starts work on a node and tells what ended, so that the same schedule runs on Ray and in
tests.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from fleet.machine_types import Node

Result = dict[str, Any]
"""What a node gave; with `error` where it gave nothing."""
Log = Callable[[str], None]
Lines = defaultdict[Node, list[str]]
"""What became of each node, in order."""


@dataclass(frozen=True)
class Work:
    """One thing that one node does; `name` and `machine_type` of the run where it measures."""

    node: Node
    what: Literal["probe", "measure"]
    name: str = "probe"
    machine_type: str = ""


Keep = Callable[[Work, Result], str]
"""Takes what came of a work; returns why it could not be kept, empty if it was."""


class Engine(Protocol):
    """Starts work on nodes."""

    def start(self, work: Work) -> None:
        """Begin; the node may have to wait until others' jobs on it end."""

    def next_ended(self) -> tuple[Work, Result]:
        """Wait for the next work that ended, for whatever reason; a node that died has an `error` too."""


def probe_all(engine: Engine, nodes: Collection[Node], lines: Lines) -> dict[Node, Result]:
    """Return the fingerprint of each node, all asked at once; those that give none get a line that says why."""
    found = {}
    for node in nodes:
        engine.start(Work(node, "probe"))
    for _ in nodes:
        work, result = engine.next_ended()
        error = result.get("error")
        if not error and work.node.gpus and not result.get("cuda"):
            error = f"the cluster counts {work.node.gpus:g} GPUs here, the driver shows none"
        if error:
            lines[work.node].append(f"failed: {error}")
        else:
            found[work.node] = result
    return found


def measure_all(
    engine: Engine,
    required: Mapping[str, tuple[list[str], list[Node]]],
    lines: Lines,
    keep: Keep,
    log: Log = lambda _text: None,
) -> list[str]:
    """Measure all that is required: of each machine type its runs by name, on these nodes, each node at most once.

    All types at once; a run whose node fails goes to the next node of the type.  `keep` takes each result as soon as it
    is there.  Returns the names of the runs that no node gave.
    """
    names = {each: deque(runs) for each, (runs, _) in required.items()}
    nodes = {each: deque(there) for each, (_, there) in required.items()}

    def start(machine_type: str) -> int:
        """Give runs to nodes while there are both; return how many were started."""
        started = min(len(names[machine_type]), len(nodes[machine_type]))
        for _ in range(started):
            node, name = nodes[machine_type].popleft(), names[machine_type].popleft()
            log(f"{node.address} measures {name}")
            engine.start(Work(node, "measure", name, machine_type))
        return started

    running = sum(map(start, required))
    while running:
        work, result = engine.next_ended()
        if error := keep(work, result) or result.get("error"):
            names[work.machine_type].appendleft(work.name)
            text = f"failed: {error}"
        elif result.get("is_from_before"):
            text = f"gave {work.name}, which it had measured for an earlier fleet"
        else:
            text = f"measured {work.name} in {result['seconds'] / 60:.0f} min"
        lines[work.node].append(text)
        log(f"{work.node.address} {text}")
        running += start(work.machine_type) - 1
    for each, left in nodes.items():
        for node in left:
            lines[node].append("not reached" if names[each] else "not needed: another node of its type was measured")
    return [name for left in names.values() for name in left]
