"""Halton sequence (Halton 1960), as a sampler of one's own: a pure function of the space and of an index.

The coordinate of a parameter is the radical inverse of the index in a prime base of its own: the digits of the index,
mirrored at the point. Successive points fill the space evenly. Points that break a constraint are passed over.

    search: {sampler: "halton:propose", args: {skip: 20}, num_trials: 64}

Of `space`, `trials`, `index` and `seed`, a function gets those that it takes. A sequence needs no random numbers, and
learns nothing from the trials.
"""

from itertools import count
from typing import Any

from search_spaces import SearchSpace


def propose(space: SearchSpace, index: int, *, skip: int = 20) -> dict[str, Any]:
    """Return the ``index``-th point of the sequence, counted from 0, of those that satisfy the constraints.

    The first ``skip`` are left out: in large bases they lie on a line.

    >>> from search_spaces import Float
    >>> space = SearchSpace({"a": Float(0.0, 1.0), "b": Float(0.0, 1.0)})
    >>> [propose(space, index, skip=1) for index in range(2)]
    [{'a': 0.5, 'b': 0.3333333333333333}, {'a': 0.25, 'b': 0.6666666666666666}]
    """
    if skip < 0:
        raise ValueError(f"skip: must be >= 0, got {skip}")
    points = (_point(space, number) for number in count(skip))
    valid = (point for point in points if not space.constraints or space.contains(point))
    return next(point for place, point in enumerate(valid) if place == index)


def _point(space: SearchSpace, number: int) -> dict[str, Any]:
    point: dict[str, Any] = {}
    for name, base in zip(space.names, _primes(len(space.names)), strict=True):
        if name in space.active(point):
            point[name] = space.parameters[name].from_unit(radical_inverse(number, base))
    return point


def radical_inverse(number: int, base: int) -> float:
    """Return the digits of a number, mirrored at the point.

    >>> [radical_inverse(number, 2) for number in range(5)]
    [0.0, 0.5, 0.25, 0.75, 0.125]
    """
    inverse, digit = 0.0, 1.0 / base
    while number:
        number, rest = divmod(number, base)
        inverse, digit = inverse + rest * digit, digit / base
    return inverse


def _primes(amount: int) -> list[int]:
    primes: list[int] = []
    for number in count(2):
        if len(primes) == amount:
            return primes
        if all(number % prime for prime in primes):
            primes.append(number)
    return primes
