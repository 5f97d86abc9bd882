"""Statistics of judged and labelled data: pure functions from plain arrays to `Estimate` records.

No file, model or judge is touched here. Undefined figures are None with a reason, never NaN. Intervals treat the item,
or the group of items that share a source, as the unit of chance; never the single call to a judge.
"""
