"""Who measures what, and what becomes of it: each kind once, another node of the kind where one fails.

Knows no cluster: an Engine starts work on a node and tells what ended, so that the same schedule runs on Ray and in a
simulation with a clock of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from fleet.kinds import Node

Result = dict[str, Any]
"""What a node gave; with `fault` where it gave nothing."""
Say = Callable[[str], None]
Keep = Callable[["Work", str, Result], str]
"""Takes what came of a work on a kind; returns why it could not be kept, empty if it was."""


@dataclass(frozen=True)
class Work:
    """One thing that one node does."""

    node: Node
    what: Literal["look", "measure"]
    name: str


class Engine(Protocol):
    """Starts work on nodes."""

    def start(self, work: Work) -> None:
        """Begin; the node may have to wait until others' jobs on it end."""
        ...

    def next_ended(self) -> tuple[Work, Result]:
        """Wait for the next work that ended, for whatever reason; a node that died has a `fault` too."""
        ...


@dataclass
class Lines:
    """What became of each node."""

    texts: dict[Node, str] = field(default_factory=dict)

    def add(self, node: Node, text: str) -> None:
        """Add what a node did, after what it did before."""
        self.texts[node] = f"{self.texts[node]}; {text}" if node in self.texts else text


def look_at(engine: Engine, nodes: Iterable[Node], lines: Lines) -> dict[Node, Result]:
    """Ask all nodes at once which machine they are; those that do not tell get a line that says why."""
    waiting = 0
    for node in nodes:
        engine.start(Work(node, "look", "look"))
        waiting += 1
    found = {}
    for _ in range(waiting):
        work, result = engine.next_ended()
        fault = result.get("fault") or _without_driver(work.node, result)
        if fault:
            lines.add(work.node, f"failed: {fault}")
        else:
            found[work.node] = result
    return found


def _without_driver(node: Node, machine: Result) -> str:
    """Return why a node that the cluster counts GPUs of shows none, empty if it does or has none."""
    is_hidden = bool(node.gpus) and not machine.get("cuda")
    return f"the cluster counts {node.gpus:g} GPUs here, the driver shows none" if is_hidden else ""


@dataclass
class _Kind:
    """The runs that a kind still needs, and its nodes that have not tried yet."""

    names: deque[str]
    nodes: deque[Node]


def measure_all(
    engine: Engine,
    wanted: Mapping[str, tuple[list[str], list[Node]]],
    lines: Lines,
    keep: Keep,
    say: Say = lambda _text: None,
) -> list[str]:
    """Measure all that is wanted: of each kind its runs by name, on these nodes, each node at most once.

    All kinds at once; a run whose node fails goes to the next node of the kind.  `keep` takes each result as soon as it
    is there.  Returns the names of the runs that no node gave.
    """
    kinds = {kind: _Kind(deque(names), deque(nodes)) for kind, (names, nodes) in wanted.items()}
    kind_of = {name: kind for kind, (names, _) in wanted.items() for name in names}
    running = sum(_start(engine, each, say) for each in kinds.values())
    while running:
        work, result = engine.next_ended()
        running -= 1
        kind = kinds[kind_of[work.name]]
        fault = keep(work, kind_of[work.name], result) or result.get("fault", "")
        if fault:
            kind.names.appendleft(work.name)
        text = f"failed: {fault}" if fault else measured_text(work.name, result)
        lines.add(work.node, text)
        say(f"{work.node.address} {text}")
        running += _start(engine, kind, say)
    for each in kinds.values():
        for node in each.nodes:
            lines.add(node, "not needed: another node of its kind was measured" if not each.names else "not reached")
    return [name for each in kinds.values() for name in each.names]


def _start(engine: Engine, kind: _Kind, say: Say) -> int:
    """Give runs to nodes while there are both; return how many were started."""
    started = 0
    while kind.names and kind.nodes:
        work = Work(kind.nodes.popleft(), "measure", kind.names.popleft())
        say(f"{work.node.address} measures {work.name}")
        engine.start(work)
        started += 1
    return started


def measured_text(name: str, result: Result) -> str:
    """Return what a node that gave a run did."""
    if result.get("is_from_before"):
        return f"gave {name}, which it had measured for an earlier fleet"
    return f"measured {name} in {result['seconds'] / 60:.0f} min"
