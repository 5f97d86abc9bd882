"""Every verb that spreads, on two Ray workers; run by test_scale_ray.py as a program of its own.

Ray's processes talk over this machine's own address, which tests may not reach.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from perl_eval import building
from perl_eval.client.reply import Reply
from perl_eval.cluster.ray_workers import Cluster, RayJudge, RaySpread
from perl_eval.errors import UserError
from perl_eval.judges.registry import BackendOptions
from perl_eval.judging import judge
from perl_eval.records import Question
from perl_eval.sampling import in_process
from perl_eval.scoring import score

CLUSTER = Cluster(workers=2)
SAMPLING = in_process.SampleOptions(name="m", draws=2, batch=5, max_new_tokens=5, max_tokens=40)
JUDGING = judge.JudgeOptions(prompt="dialogue")


@dataclass(frozen=True)
class Mortal:
    """Doubles numbers; the worker that gets 5 is killed, the first time."""

    tombstone: Path

    def __call__(self) -> Callable[[int], int]:
        def doubled(number: int) -> int:
            if number == 5 and not self.tombstone.exists():
                self.tombstone.write_text("x")
                os.kill(os.getpid(), signal.SIGKILL)
            if number == 99:
                raise UserError("99 is not a number", "give another")
            return 2 * number

        return doubled


class Struck(RayJudge):
    """Of its two workers one is killed before it is asked anything, and again while it answers; Ray starts another."""

    asked = 0

    async def ask(self, questions: Sequence[Question]) -> list[Reply]:
        self.asked += 1
        if self.asked in (1, 40):
            print("on their way", self._load[0])
            self._ray.kill(self._seats[0], no_restart=False)
        return await super().ask(questions)


def main(folder: Path, chat_url: str) -> None:
    spread = RaySpread(CLUSTER)
    print("doubled", list(spread(Mortal(folder / "tombstone"), list(range(12)))))
    try:
        list(spread(Mortal(folder / "tombstone"), [99]))
    except UserError as error:
        print("refused", error)
    in_process.run(folder / "model", folder / "data", folder / "ray" / "sample", options=SAMPLING, spread=spread)
    a, b = folder / "here" / "sample", folder / "b"
    local = RayJudge(f"local:{folder / 'judge'}", BackendOptions(local_batch=4), CLUSTER)
    judge.run(a, b, folder / "ray" / "local", judge=local, options=JUDGING)
    chat = Struck("chat:tiny", BackendOptions(base_url=chat_url, price_in_usd=1.0, price_out_usd=2.0), CLUSTER)
    judge.run(a, b, folder / "ray" / "chat", judge=chat, options=JUDGING)
    score.run([folder / "here" / "local", folder / "here" / "chat"], folder / "ray" / "score", spread=spread)
    building.run(
        "taskmaster-coffee",
        folder / "ray" / "build",
        config=["ratings", "pairs"],
        data_dir=folder / "upstream",
        options=building.BuildOptions(checksums="record", cache_dir=folder / "ray-cache", spread=spread),
    )
    try:
        RayJudge("scripted:nosuch", BackendOptions(), CLUSTER)
    except UserError as error:
        print("no judge", error)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
