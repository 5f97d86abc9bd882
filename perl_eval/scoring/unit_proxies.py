"""What else says something of judged answers: another judge's verdicts of all or a random part, or scores.

A proxy need not be right: labels correct it, as they correct the judge. It only makes the interval narrower where it
tells something that the judge does not.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from perl_eval.errors import UserError
from perl_eval.outcomes import HALF
from perl_eval.records import Judgement, Score
from perl_eval.storage import run_folder

__all__ = ["proxy_of"]

FloatArray = NDArray[np.float64]
_APART = "\x1f"
_KEYS = (("a", "b"), ("item", "policy_a", "policy_b"))
"""What tells a unit: the ids of the answers, or else the item and the policies."""


def proxy_of(units: pa.Table, source: Path) -> FloatArray:
    """Return what a source says of each unit, above 0 (of single answers: higher) where it speaks for the first.

    Args:
        units: The judged units, with ``a``, ``b``, ``item``, ``policy_a`` and ``policy_b``.
        source: A run folder of another judge's judgements, or of scores of a reward model.

    Returns:
        Shape (n,); NaN where the source says nothing, which must be by chance.

    Raises:
        UserError: It says nothing of any unit.
        DataError: It does not match its card.
    """
    folder = source if source.is_dir() else source.parent
    scores = source.name == run_folder.FILES[Score] or (
        source.is_dir() and (folder / run_folder.FILES[Score]).is_file()
    )
    run_folder.fingerprint(source)
    found = _of_scores(units, source) if scores else _of_judgements(units, source)
    if not np.isfinite(found).any():
        raise UserError(f"{source} says nothing about what was judged", "give another judge's runs of the same answers")
    return found


def _of_judgements(units: pa.Table, source: Path) -> FloatArray:
    names = ["a", "b", "item", "policy_a", "policy_b", "outcome", "p_a"]
    table = pq.read_table(run_folder.locate(source, Judgement), columns=names)
    table = table.filter(pc.is_in(table["outcome"], pa.array(list(HALF.table()), pa.string())))
    worths = HALF.table()
    plain = np.array([worths[outcome] for outcome in table["outcome"].to_pylist()], np.float64)
    chance = table["p_a"].cast(pa.float64()).to_numpy()
    value = np.where(np.isfinite(chance), chance, plain)
    pairs = pc.not_equal(table["policy_b"], "").to_numpy()
    value = np.where(pairs, 2 * value - 1, value)
    found = np.full(units.num_rows, np.nan)
    for keys in _KEYS:
        turned = [*keys[:-2], keys[-1], keys[-2]]
        for way, sign in ((list(keys), 1.0), (turned, -1.0)):
            place = pc.index_in(_key(units, keys), _key(table, way)).to_numpy(zero_copy_only=False)
            met = np.isfinite(place) & np.isnan(found)
            found[met] = sign * value[place[met].astype(np.intp)]
        if np.isfinite(found).any():
            break
    return found


def _key(table: pa.Table, names: tuple[str, ...] | list[str]) -> pa.Array:
    parts = [table[name].cast(pa.string()).combine_chunks() for name in names]
    return pc.binary_join_element_wise(*parts, _APART)


def _of_scores(units: pa.Table, source: Path) -> FloatArray:
    table = pq.read_table(run_folder.locate(source, Score), columns=["completion", "value"])
    value = table["value"].cast(pa.float64()).to_numpy()
    spread = float(np.nanstd(value)) or 1.0
    value = (value - np.nanmean(value)) / spread
    sides = []
    for side in "ab":
        place = pc.index_in(units[side].combine_chunks(), table["completion"].combine_chunks())
        at = place.to_numpy(zero_copy_only=False)
        met = np.isfinite(at)
        found = np.full(units.num_rows, np.nan)
        found[met] = value[at[met].astype(np.intp)]
        sides.append(found)
    pairs = pc.not_equal(units["b"], "").to_numpy()
    return np.asarray(np.tanh(np.where(pairs, sides[0] - sides[1], sides[0])), np.float64)
