"""How bad an advisory says that it is: CVSS base scores, and the words that databases use beside them.

Source: CVSS v3.1 specification, sections 7.1 (equations) and 7.4 (values), and its qualitative scale;
CVSS v2 guide, section 3.2.1. CVSS v4 has no equation but a table of 270 judged vectors, which is not here:
advisories that have only such a vector are rated by the word that comes with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil, prod
from typing import Literal, get_args

Severity = Literal["Critical", "High", "Medium", "Low", "Unknown"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

_WORDS: dict[str, Severity] = {
    "critical": "Critical",
    **dict.fromkeys(("high", "important"), "High"),
    **dict.fromkeys(("medium", "moderate"), "Medium"),
    **dict.fromkeys(("low", "negligible", "unimportant", "minor"), "Low"),
}

_IMPACT = {"H": 0.56, "L": 0.22, "N": 0.0}
_V3: Mapping[str, Mapping[str, float]] = {
    "AV": {"N": 0.85, "A": 0.62, "L": 0.55, "P": 0.2},
    "AC": {"L": 0.77, "H": 0.44},
    "UI": {"N": 0.85, "R": 0.62},
}
_PRIVILEGES = {"U": {"N": 0.85, "L": 0.62, "H": 0.27}, "C": {"N": 0.85, "L": 0.68, "H": 0.5}}
_IMPACT_2 = {"N": 0.0, "P": 0.275, "C": 0.66}
_V2: Mapping[str, Mapping[str, float]] = {
    "AV": {"L": 0.395, "A": 0.646, "N": 1.0},
    "AC": {"H": 0.35, "M": 0.61, "L": 0.71},
    "Au": {"M": 0.45, "S": 0.56, "N": 0.704},
}


def base_score(vector: str) -> float | None:
    """The base score of a CVSS v3 or v2 vector, 0.0 to 10.0; None for another text."""
    parts = [part.partition(":") for part in vector.strip("()").split("/")]
    metrics = {name: value for name, _, value in parts}
    version = metrics.get("CVSS", "2.0")
    try:
        return _v3(metrics) if version.startswith("3") else _v2(metrics) if version == "2.0" else None
    except KeyError:
        return None


def _v3(metrics: Mapping[str, str]) -> float:
    changed = metrics["S"] == "C"
    lost = 1 - prod(1 - _IMPACT[metrics[name]] for name in "CIA")
    impact = 7.52 * (lost - 0.029) - 3.25 * (lost - 0.02) ** 15 if changed else 6.42 * lost
    ease = 8.22 * prod(values[metrics[name]] for name, values in _V3.items())
    ease *= _PRIVILEGES[metrics["S"]][metrics["PR"]]
    return _up(min((1.08 if changed else 1.0) * (impact + ease), 10.0)) if impact > 0 else 0.0


def _up(score: float) -> float:
    """To the next tenth, without the errors of binary fractions (appendix A of the specification)."""
    hundred_thousands = round(score * 100_000)
    return ceil(hundred_thousands / 10_000) / 10


def _v2(metrics: Mapping[str, str]) -> float:
    impact = 10.41 * (1 - prod(1 - _IMPACT_2[metrics[name]] for name in "CIA"))
    ease = 20 * prod(values[metrics[name]] for name, values in _V2.items())
    return round((0.6 * impact + 0.4 * ease - 1.5) * (1.176 if impact else 0.0), 1)


def of_score(score: float) -> Severity:
    """The word for a score."""
    return next((word for word, least in _SCALE if score >= least), "Low")


_SCALE: tuple[tuple[Severity, float], ...] = (("Critical", 9.0), ("High", 7.0), ("Medium", 4.0))


def of_words(words: Iterable[object]) -> Severity:
    """What the first word that means something says."""
    return next((_WORDS[str(word).lower()] for word in words if str(word).lower() in _WORDS), "Unknown")
