"""The verbs as functions: paths or objects in, a result out; without ``out`` nothing is kept but the result.

Each does what the command of its name does, with the same options.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from perl_eval.errors import UserError
from perl_eval.records import Completion, HumanLabel
from perl_eval.results import Built, Completions, Estimates, Judged, Result, TemporaryFolder, Trained, Written
from perl_eval.storage import parquet, run_folder

if TYPE_CHECKING:
    from perl_eval.building import BuildOptions
    from perl_eval.judges.protocol import Judge
    from perl_eval.judging.options import JudgeOptions
    from perl_eval.reporting.page import Format
    from perl_eval.sampling.in_process import SampleOptions
    from perl_eval.scoring.agree import AgreeOptions
    from perl_eval.scoring.audit_options import AuditOptions
    from perl_eval.scoring.power import Pilot, PowerOptions, Wanted
    from perl_eval.scoring.score import ScoreOptions
    from perl_eval.training.policy import PolicyOptions
    from perl_eval.training.reward import RewardOptions
    from perl_eval.training.sft import SftOptions

__all__ = [
    "agree",
    "audit",
    "build",
    "judge",
    "jury",
    "power",
    "report",
    "sample",
    "score",
    "train_policy",
    "train_reward",
    "train_sft",
]

Source = Any
"""A run folder or file, a result of a verb, or objects in memory."""
Kind = TypeVar("Kind", bound=Result[Any])


def judge(
    a: Source,
    b: Source = None,
    *,
    by: str | Judge,
    prompt: str,
    out: str | Path | None = None,
    options: JudgeOptions | None = None,
) -> Judged:
    """Judge answers a against answers b, in both orders; or answers a alone, yes or no.

    Args:
        a: Completions of one policy: a run folder, a file, or objects, see `perl_eval.completions`; ``{"NAME": rows}``
            names the policy.
        b: Those of another, or None.
        by: A judge, or what opens one, such as ``chat:MODEL``; see `perl_eval.open_judge`.
        prompt: Name of the prompt, such as ``helpful``; it wins over that of the options.
        out: Folder to keep judgements and replies in. Without it replies are gone with the result: give it, or a ledger
            in the options, where they cost money.
        options: How to judge.

    Raises:
        UserError: Nothing matches, the prompt asks for something else, or the judge will never answer.
        DataError: A row lacks what is needed.

    Example:
        >>> import perl_eval as pe
        >>> ours = [{"prompt": f"Count to {n}.", "text": "one, two, three"} for n in range(8)]
        >>> theirs = [{"prompt": f"Count to {n}.", "text": "no"} for n in range(8)]
        >>> judged = pe.judge({"ours": ours}, {"theirs": theirs}, by="scripted:length", prompt="dialogue")
        >>> print(judged.win_rate)
        1.00 (0.68 to 1.00), n = 8
    """
    from perl_eval.judges.registry import open_judge
    from perl_eval.judging.judge import JudgeOptions, run

    how = replace(options, prompt=prompt) if options else JudgeOptions(prompt=prompt)
    who = open_judge(by) if isinstance(by, str) else by
    with _given(a, Completion, "a") as ours, _given(b, Completion, "b") as theirs:
        assert ours is not None
        return _kept(Judged, out, lambda home: run(ours, theirs, home, judge=who, options=how))


def jury(members: Sequence[Source], *, labels: Source = None, out: str | Path | None = None) -> Estimates:
    """What several judges of the same pairs say together, and how alike they err.

    Args:
        members: Results or run folders of `judge`, one a judge.
        labels: Human labels of the same units, to know the judges' errors by.
        out: Folder to keep the figures in.

    Raises:
        UserError: There are fewer than two judges, or they judged different things.

    Example:
        >>> import perl_eval as pe
        >>> ours = {"ours": [{"prompt": f"Say {n}.", "text": "x" * n} for n in range(1, 20)]}
        >>> theirs = {"theirs": [{"prompt": f"Say {n}.", "text": "y" * (20 - n)} for n in range(1, 20)]}
        >>> said = [pe.judge(ours, theirs, by=by, prompt="dialogue") for by in ("scripted:length", "scripted:constant")]
        >>> len(pe.jury(said)) > 0
        True
    """
    from perl_eval.judging.jury import run

    if isinstance(members, str | Path | Result):
        raise UserError("one judge is no jury", "give a list of results of `judge`")
    homes = [_home(one) for one in members]
    with _given(labels, HumanLabel) as people:
        return _kept(Estimates, out, lambda home: run(homes, home, labels=people))


def score(*judgements: Source, out: str | Path | None = None, options: ScoreOptions | None = None) -> Estimates:
    """Win rates, position bias, length control, paired comparisons and a ranking, from judgements.

    Args:
        judgements: Results or run folders of `judge`; several are compared item by item.
        out: Folder to keep the figures in.
        options: How figures are estimated.

    Raises:
        UserError: There are no judgements.
        DataError: A judgement occurs twice.

    Example:
        >>> import perl_eval as pe
        >>> ours = {"ours": [{"prompt": f"Say {n}.", "text": "x" * n} for n in range(1, 20)]}
        >>> theirs = {"theirs": [{"prompt": f"Say {n}.", "text": "y" * (20 - n)} for n in range(1, 20)]}
        >>> judged = pe.judge(ours, theirs, by="scripted:length", prompt="dialogue")
        >>> print(pe.score(judged)["win rate"])
        0.47 (0.27 to 0.68), n = 19
    """
    from perl_eval.scoring.score import run

    homes = [_home(one) for one in judgements]
    return _kept(Estimates, out, lambda home: run(homes, home, options=options))


def agree(
    judgements: Source,
    labels: Source,
    *,
    out: str | Path | None = None,
    options: AgreeOptions | None = None,
) -> Estimates:
    """How far people agree, a judge with them, and the judge's rates corrected by their labels.

    Args:
        judgements: A result or run folder of `judge`.
        labels: Human labels of a part: a run folder, a table (``.csv``, ``.jsonl``, ``.parquet``), or HumanLabel
            records.
        out: Folder to keep the figures in.
        options: How figures are estimated.

    Raises:
        UserError: Nobody labelled what was judged.
        DataError: A label means nothing here.

    Example:
        >>> import perl_eval as pe
        >>> ours = {"ours": [{"prompt": f"Say {n}.", "text": "x" * n} for n in range(1, 20)]}
        >>> theirs = {"theirs": [{"prompt": f"Say {n}.", "text": "y" * (20 - n)} for n in range(1, 20)]}
        >>> judged = pe.judge(ours, theirs, by="scripted:length", prompt="dialogue")
        >>> people = [pe.HumanLabel(one.unit, one.item, one.group, "ann", one.outcome) for one in judged]
        >>> pe.agree(judged, people)["human-judge exact agreement"].value
        1.0
    """
    from perl_eval.scoring.agree import run

    with _given(labels, HumanLabel) as people:
        assert people is not None
        return _kept(Estimates, out, lambda home: run(_home(judgements), people, home, options=options))


def audit(
    judgements: Source,
    labels: Source,
    *,
    out: str | Path | None = None,
    again: Source = None,
    attack: Source = None,
    options: AuditOptions | None = None,
) -> Estimates:
    """What a judge is worth: agreement with people, repeatability, position, length, attacks, cost.

    Args:
        judgements: A result or run folder of `judge`.
        labels: Human labels of the same units; see `agree`.
        out: Folder to keep the figures and the page in.
        again: The same judged once more, with a ledger of its own.
        attack: A run folder of ``perl-eval judge --attack``.
        options: How the judge is audited.

    Raises:
        UserError: Nobody labelled what was judged.

    Example:
        >>> import perl_eval as pe
        >>> ours = {"ours": [{"prompt": f"Say {n}.", "text": "x" * n} for n in range(1, 20)]}
        >>> theirs = {"theirs": [{"prompt": f"Say {n}.", "text": "y" * (20 - n)} for n in range(1, 20)]}
        >>> judged = pe.judge(ours, theirs, by="scripted:length", prompt="dialogue")
        >>> people = [pe.HumanLabel(one.unit, one.item, one.group, "ann", one.outcome) for one in judged]
        >>> pe.audit(judged, people)["human-judge exact agreement"].value
        1.0
    """
    from perl_eval.scoring.audit import run
    from perl_eval.scoring.audit_options import Sources

    sources = Sources(None if again is None else _home(again), None if attack is None else _home(attack))
    with _given(labels, HumanLabel) as people:
        assert people is not None
        given = _home(judgements)
        return _kept(Estimates, out, lambda home: run(given, people, home, sources=sources, options=options))


def power(
    wanted: Wanted,
    *,
    pilot: Pilot | None = None,
    out: str | Path | None = None,
    options: PowerOptions | None = None,
) -> Estimates:
    """How many pairs, labels and how much money a wanted certainty takes.

    Args:
        wanted: What is wanted.
        pilot: Where the assumptions come from.
        out: Folder to keep the figures in.
        options: How to plan.

    Raises:
        UserError: Nothing is wanted, or it cannot be had.

    Example:
        >>> import perl_eval as pe
        >>> from perl_eval.scoring.power import Wanted
        >>> pe.power(Wanted(half_width=0.05))["pairs"].value > 100
        True
    """
    from perl_eval.scoring.power import run

    return _kept(Estimates, out, lambda home: run(wanted, home, pilot=pilot, options=options))


def sample(
    model: Source,
    data: Source,
    *,
    out: str | Path | None = None,
    options: SampleOptions | None = None,
    seed: int = 0,
) -> Completions:
    """Have a model answer the prompts of a data set.

    Args:
        model: A model's folder, or the result of a training verb.
        data: Rows: a folder of splits, or objects, see `perl_eval.rows`; their prompts are answered.
        out: Folder to keep the answers in.
        options: Name, split, draws, temperature, lengths.
        seed: Of the draws.

    Raises:
        UserError: There is no such model or split.

    Example:
        >>> import perl_eval as pe
        >>> from perl_eval.sampling.in_process import SampleOptions
        >>> from perl_eval.training.sft import SftOptions
        >>> said = [{"prompt": f"count to {n}", "completion": "one two three"} for n in range(64)]
        >>> model = pe.train_sft(said, options=SftOptions(model="scratch:tiny", epochs=1))
        >>> answers = pe.sample(model, {"test": said[:3]}, options=SampleOptions(name="tiny", max_new_tokens=4))
        >>> {answer.policy for answer in answers}
        {'tiny'}
    """
    from perl_eval.sampling.in_process import run

    with _rows(data) as asked:
        return _kept(Completions, out, lambda home: run(_home(model), asked, home, options=options, seed=seed))


def build(
    name: str,
    *,
    config: str | Sequence[str] | None = None,
    data_dir: str | Path | None = None,
    out: str | Path | None = None,
    options: BuildOptions | None = None,
) -> Built:
    """Build a data set in TRL's columns from its pinned upstream files.

    Args:
        name: Such as ``harmless``; see ``perl-eval build --help``.
        config: One configuration or several; by default all.
        data_dir: Folder with the upstream files; by default they are downloaded.
        out: Folder to keep it in.
        options: Splits, checksums, settings of one data set.

    Raises:
        UserError: There is no such data set, or the files cannot be had.
        DataError: The files are not the pinned ones.

    Example:
        >>> import perl_eval as pe
        >>> pe.build("harmles")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        perl_eval.errors.UserError: no data set 'harmles'; ...
    """
    from perl_eval.building import run

    where = None if data_dir is None else Path(data_dir)
    return _kept(Built, out, lambda home: run(name, home, config=config, data_dir=where, options=options))


def train_sft(
    data: Source, *, out: str | Path | None = None, options: SftOptions | None = None, seed: int = 0
) -> Trained:
    """Train a model on demonstrations.

    Args:
        data: Demonstration rows: a folder of splits, or objects, see `perl_eval.rows`.
        out: Folder to keep the model in; without it the model is gone with the result.
        options: The model to start from, epochs, rates, LoRA.
        seed: Of the run.

    Raises:
        UserError: There are no such rows, or the model cannot be had.

    Example:
        >>> import perl_eval as pe
        >>> from perl_eval.training.sft import SftOptions
        >>> said = [{"prompt": f"count to {n}", "completion": "one two three"} for n in range(64)]
        >>> model = pe.train_sft(said, options=SftOptions(model="scratch:tiny", epochs=1))
        >>> sorted({point.metric for point in model})
        ['gradient norm', 'loss']
    """
    from perl_eval.training.sft import SftOptions, run

    how = options or SftOptions()
    with _rows(data) as rows:
        return _kept(Trained, out, lambda home: run(rows, home, options=how, seed=seed))


def train_reward(
    data: Source,
    prior: Source,
    *,
    out: str | Path | None = None,
    options: RewardOptions | None = None,
    seed: int = 0,
) -> Trained:
    """Train a reward model on ratings or preferences, from an SFT model.

    Args:
        data: Rating or Preference rows: a folder of splits, or objects, see `perl_eval.rows`.
        prior: The SFT model: its folder, or the result of `train_sft`.
        out: Folder to keep the model in; without it the model is gone with the result.
        options: Loss, LoRA or full, epochs, rates.
        seed: Of the run.

    Raises:
        UserError: There are no such rows, or no such model.

    Example:
        >>> import perl_eval as pe
        >>> from perl_eval.training.sft import SftOptions
        >>> from perl_eval.training.reward import RewardOptions
        >>> said = [{"prompt": f"count to {n}", "completion": "one two three"} for n in range(64)]
        >>> prior = pe.train_sft(said, options=SftOptions(model="scratch:tiny", epochs=1))
        >>> pairs = [{"prompt": row["prompt"], "chosen": "one two", "rejected": "no"} for row in said]
        >>> rewarded = pe.train_reward(pairs, prior, options=RewardOptions(epochs=1))
        >>> (rewarded.home / "adapter_config.json").is_file()
        True
    """
    from perl_eval.training.reward import run

    start = _home(prior)
    with _rows(data) as rows:
        return _kept(Trained, out, lambda home: run(rows, start, home, options=options, seed=seed))


def train_policy(
    data: Source,
    prior: Source,
    reward: Source | Sequence[Source],
    *,
    out: str | Path | None = None,
    options: PolicyOptions | None = None,
    seed: int = 0,
) -> Trained:
    """Train a policy against a reward, with a KL penalty to the SFT model.

    Args:
        data: Rows: a folder of splits, or objects, see `perl_eval.rows`; their prompts are answered.
        prior: The SFT model: its folder, or the result of `train_sft`.
        reward: A reward model or several, folders or results of `train_reward`; or a function from prompts and answers
            to numbers.
        out: Folder to keep the policy in; without it the policy is gone with the result.
        options: Objective, beta, LoRA or full, steps, rates.
        seed: Of the run.

    Raises:
        UserError: There are no such rows, or no such model.

    Example:
        >>> import perl_eval as pe
        >>> from perl_eval.training.policy import PolicyOptions
        >>> from perl_eval.training.sft import SftOptions
        >>> said = [{"prompt": f"count to {n}", "completion": "one two three"} for n in range(64)]
        >>> prior = pe.train_sft(said, options=SftOptions(model="scratch:tiny", epochs=1))
        >>> def short(prompts, answers):
        ...     return [-float(len(answer.text)) for answer in answers]
        >>> policy = pe.train_policy(said, prior, short, options=PolicyOptions(steps=2, batch=8))
        >>> len([point for point in policy if point.metric == "reward"])
        2
    """
    from perl_eval.training.policy import run

    rewards = reward
    if isinstance(reward, str | Path | Result):
        rewards = _home(reward)
    elif isinstance(reward, Sequence):
        rewards = [_home(one) for one in reward]
    start = _home(prior)
    with _rows(data) as rows:
        return _kept(Trained, out, lambda home: run(rows, start, rewards, home, options=options, seed=seed))


def report(
    *sources: Source, out: str | Path | None = None, title: str = "perl-eval report", format: Format = "html"
) -> Written:
    """One self-contained page of everything that some results hold.

    Args:
        sources: Results, or folders that hold run folders.
        out: The file to write.
        title: The page's heading.
        format: ``html`` for the page, ``md`` or ``json`` for the figures alone.

    Raises:
        UserError: No run folder is there.

    Example:
        >>> import perl_eval as pe
        >>> ours = {"ours": [{"prompt": f"Say {n}.", "text": "x" * n} for n in range(1, 20)]}
        >>> theirs = {"theirs": [{"prompt": f"Say {n}.", "text": "y" * (20 - n)} for n in range(1, 20)]}
        >>> judged = pe.judge(ours, theirs, by="scripted:length", prompt="dialogue")
        >>> page = pe.report(judged, pe.score(judged))
        >>> "win rate" in page.file.read_text("utf-8")
        True
    """
    from perl_eval.reporting.page import run

    homes, keeper = [_home(one) for one in sources], None
    if out is None:
        keeper = TemporaryFolder()
        out = keeper.path / f"report.{format}"
    return Written(run(homes, Path(out), title=title, format=format), keeper)


def _kept(kind: type[Kind], out: str | Path | None, run: Callable[[Path], Path]) -> Kind:
    """Run a verb into a folder, the one given or a temporary one, and return what it wrote."""
    if out is not None:
        return kind(run(Path(out)))
    keeper = TemporaryFolder()
    return kind(run(keeper.path / "run"), keeper)


@contextmanager
def _rows(data: Source) -> Iterator[Path]:
    """Yield a folder of rows; of objects, for as long as the block lasts."""
    if isinstance(data, str | Path | Result):
        yield _home(data)
        return
    from perl_eval.sources.rows import write_rows

    keeper = TemporaryFolder()
    yield write_rows(keeper.path / "rows", data)
    del keeper


def _home(source: Source) -> Path:
    """Return the folder of a result, or a path as it is.

    Raises:
        UserError: It is neither, or there is nothing at that path.
    """
    if isinstance(source, Result):
        return source.home
    if not isinstance(source, str | Path):
        raise UserError(f"a {type(source).__name__} is no folder", "give a path, or the result of a verb")
    if not Path(source).exists():
        raise UserError(f"no such file or folder: {source}", "check the path")
    return Path(source)


@contextmanager
def _given(source: Source, kind: type, name: str = "") -> Iterator[Path | None]:
    """Yield where the records of something given lie; of objects, for as long as the block lasts."""
    if source is None or isinstance(source, Result):
        yield None if source is None else source.home
        return
    if isinstance(source, str | Path) and _is_run(Path(source), kind):
        yield Path(source)
        return
    keeper = TemporaryFolder()
    path = keeper.path / run_folder.FILES[kind]
    parquet.write(path, _records(source, kind, name), kind)
    yield path.parent
    del keeper


def _is_run(path: Path, kind: type) -> bool:
    return path.is_dir() or path.name == run_folder.FILES[kind]


def _records(source: Source, kind: type, name: str) -> Sequence[Any]:
    if kind is HumanLabel:
        from perl_eval.sources.labels import labels

        return labels(source)
    from perl_eval.sources.completions import completions

    if isinstance(source, Mapping) and len(source) == 1:
        ((policy, rows),) = source.items()
        return completions(rows, policy=str(policy))
    return completions(source, policy="" if isinstance(source, str | Path) else name)
