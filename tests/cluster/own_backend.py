"""A backend of one's own, with a reader of its own; as a program it judges on Ray: OWN_BACKEND A B OUT."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from perl_eval.client.reply import Reply
from perl_eval.judges.protocol import Judge
from perl_eval.judges.readers import register_reader
from perl_eval.judges.registry import BackendOptions, register_backend
from perl_eval.records import Ballot, Question


@register_reader
@dataclass(frozen=True)
class CountReader:
    name: ClassVar[str] = "counts"
    margin: int = 0

    def read(self, question: Question, reply: Reply) -> Ballot:
        first, second = map(int, reply.text.split())
        tie = abs(first - second) <= self.margin
        return reply.ballot(question, "tie" if tie else "first" if first > second else "second")


class CountJudge(Judge):
    """Prefers the answer that holds a word more often."""

    backend, positional, sees = "count", False, "candidates"

    def __init__(self, word: str, options: BackendOptions) -> None:
        self.model, self.parameters, self.reader = word, {}, CountReader(int(options.tie_margin))

    async def ask(self, questions: Sequence[Question]) -> list[Reply]:
        return [Reply(" ".join(str(one.text.count(self.model)) for one in q.candidates)) for q in questions]


register_backend("count", CountJudge, names="WORD")


if __name__ == "__main__":
    from perl_eval.cluster.ray_workers import Cluster, RayJudge
    from perl_eval.judging import judge

    a, b, out = map(Path, sys.argv[1:])
    by = RayJudge("count:please", BackendOptions(tie_margin=1.0), Cluster(workers=2))
    judge.run(a, b, out, judge=by, options=judge.JudgeOptions("dialogue"))
    print(judge.verify(out, judge=by))
