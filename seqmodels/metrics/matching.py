"""Who takes what: assignment of predictions to truth in turn. M left rows, N right rows, P pairs of them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def pairs_within(left_cell: Ints, right_cell: Ints) -> tuple[Ints, Ints]:
    """All pairs (left row, right row) of equal cells: ``(M,)``, ``(N,)`` -> ``(P,)``, ``(P,)``, by left, then right."""
    order = np.argsort(right_cell, kind="stable")
    ordered = right_cell[order]
    begin = np.searchsorted(ordered, left_cell, "left")
    count = np.searchsorted(ordered, left_cell, "right") - begin
    left = np.repeat(np.arange(len(left_cell)), count)
    within = np.arange(len(left)) - np.repeat(np.cumsum(count) - count, count)
    return left, order[np.repeat(begin, count) + within]


def cells(*keys: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    """One number for each combination of keys, equal on the left and on the right where all keys are equal.

    Each key is its values on the left ``(M,)`` and on the right ``(N,)``. Returns ``(M,)`` and ``(N,)``.
    """
    n_left = len(keys[0][0])
    cell = np.zeros(n_left + len(keys[0][1]), np.int64)
    for left, right in keys:
        _, number = np.unique(np.concatenate((left, right)), return_inverse=True)
        cell = cell * (int(number.max(initial=0)) + 1) + number
        _, cell = np.unique(cell, return_inverse=True)
    return cell[:n_left], cell[n_left:]


def rank_in_group(group: NDArray[Any]) -> Ints:
    """Place of each row among the rows of its group, in order: ``(M,)`` -> ``(M,)``."""
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(group) else np.zeros(0, np.int64)
    ranks = np.empty(len(group), np.int64)
    ranks[order] = np.arange(len(group)) - np.repeat(starts, np.diff(np.append(starts, len(group))))
    return ranks


def places(order: Ints) -> Ints:
    """Where each row stands in an order of rows, which is its turn: ``(M,)`` -> ``(M,)``."""
    turn = np.empty(len(order), np.int64)
    turn[order] = np.arange(len(order))
    return turn


def rank_by_score(group: Ints, score: NDArray[np.float64]) -> Ints:
    """Place of each row among its group's by falling score, of equal ones the earlier first: ``(M,)`` -> ``(M,)``."""
    order = np.argsort(-score, kind="stable")
    ranks = np.empty(len(group), np.int64)
    ranks[order] = rank_in_group(group[order])
    return ranks


def take_in_turn(left: Ints, right: Ints, turn: Ints, n_right: int) -> Ints:
    """Each left row, in turn, takes the first right row of its list that is still free.

    This is what evaluation scripts do in a loop over predictions by falling score. Here all rows ask at once, and a
    right row stays with the earliest turn that asked so far (deferred acceptance, Gale and Shapley 1962): as all right
    rows agree on who goes first, the outcome is the same, and few rounds are needed.

    Args:
        left: ``(P,)`` left row of each pair, rising.
        right: ``(P,)`` its right row; of one left row the one that it wants most comes first.
        turn: ``(M,)`` each left row's place in the order, 0..M-1, each once.
        n_right: N.

    Returns:
        ``(M,)`` the right row that each left row takes; -1 for none.
    """
    n_left = len(turn)
    stop = np.bincount(left, minlength=n_left).cumsum()
    begin = np.concatenate((np.zeros(1, np.int64), stop[:-1]))[:n_left]
    by_turn = np.empty(n_left, np.int64)
    by_turn[turn] = np.arange(n_left)
    holder = np.full(n_right, n_left)  # the turn of who holds each right row
    at = begin.copy()
    asking = np.flatnonzero(at < stop)
    while len(asking):
        wanted = right[at[asking]]
        before = holder[wanted]
        np.minimum.at(holder, wanted, turn[asking])
        refused = asking[turn[asking] != holder[wanted]]
        pushed = np.unique(before[(before < n_left) & (holder[wanted] < before)])
        asking = np.concatenate((refused, by_turn[pushed]))
        at[asking] += 1
        asking = asking[at[asking] < stop[asking]]
    taken = np.full(n_left, -1)
    held = np.flatnonzero(holder < n_left)
    taken[by_turn[holder[held]]] = held
    return taken
