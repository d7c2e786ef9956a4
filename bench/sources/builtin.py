"""Labelled review sentences, written for this project, split by opening: none both evaluates and calibrates."""

from bench.core.schemas import Labelled

NAMES = ("NEGATIVE", "POSITIVE")
"""Of the labels, by number."""

OPENINGS = (
    "the film",
    "this small comedy about two rival bakers",
    "her second feature",
    "what begins as a quiet road movie",
    "the long-awaited sequel",
    "a modest thriller set on a night train",
    "the documentary on deep-sea divers",
    "this retelling of an old harbour legend",
    "the ensemble piece",
    "his debut, shot in eleven days with borrowed cameras and a crew of friends,",
    "the animated tale of a clockmaker's daughter",
    "a courtroom drama that never leaves the corridor outside the court",
    "the remake",
    "this winter romance",
    "the heist story, told backwards from the moment the alarm falls silent,",
    "an adaptation of a novel many called impossible to film",
)
PRAISE = (
    "is a delight from its first frame to its last",
    "finds warmth in places where others see only dust",
    "earns every one of its tears honestly",
    "moves with the grace of a much bigger production",
    "is sharp, funny and generous to all of its characters",
    "lets its wonderful cast breathe, and they reward it with superb performances",
    "grips you gently and does not let go",
    "is beautifully shot and even better written",
    "turns a simple idea into something rich and memorable",
    "made the whole room laugh out loud more than once",
)
BLAME = (
    "is a tedious exercise that mistakes silence for depth",
    "runs out of ideas before the opening titles end",
    "wastes a fine cast on stale jokes and lazy writing",
    "drags on for two hours and says nothing",
    "is loud, clumsy and strangely joyless",
    "never decides what it wants to be and fails at all of it",
    "buries a decent idea under a mountain of clichés",
    "feels like an advertisement for a better film",
    "is badly lit, badly cut and badly acted",
    "left me checking my watch from the second scene on",
)
ENDINGS = (
    ".",
    ", and the music does the rest.",
    ", which is more than can be said of anything else released this month.",
    " .",
    ", whatever the posters and the trailers, which show scenes that are not even in it, would have you believe.",
)
CALIBRATION_OPENINGS = 6


def builtin_sentences() -> tuple[list[Labelled], list[Labelled]]:
    """Return (evaluation, calibration), labelled 1 for praise and 0 for blame, in a fixed order."""
    return _compose(OPENINGS[CALIBRATION_OPENINGS:]), _compose(OPENINGS[:CALIBRATION_OPENINGS])


def _compose(openings: tuple[str, ...]) -> list[Labelled]:
    return [
        Labelled(f"{opening} {judgement}{ENDINGS[(turn + place) % len(ENDINGS)]}", label)
        for turn, judgements in enumerate(zip(PRAISE, BLAME, strict=True))
        for place, opening in enumerate(openings)
        for label, judgement in zip((1, 0), judgements, strict=True)
    ]
