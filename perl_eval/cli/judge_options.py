"""The options of the verb judge, in the groups that its help shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_QUESTION = "What is asked"
_LIMITS = "Pace and limits"
_SERVER = "Judges behind a server"
_NEAR = "Judges in this process"
_INSTEAD = "Instead of judging"

PAIRS_PROMPT = "preference"
"""What is asked of two answers where no prompt is named."""
VERDICTS = ("structured", "text", "logprobs")
FORMS = ("openai", "systemone")

A = Annotated[Path | None, typer.Argument(help="Answers of contestant a: a run folder, or a file of any format.")]
B = Annotated[Path | None, typer.Argument(help="Answers of b; leave out to judge a alone.")]
Judges = Annotated[
    list[str] | None,
    typer.Option(
        "--judge",
        help="chat:MODEL; a provider's openai:MODEL, anthropic:, google:, mistral:, openrouter:, together:, groq:, "
        "deepseek:, azure:, ollama:, vllm:, llamacpp:MODEL; decisions:MODEL; local:MODEL or reward:MODEL "
        "(a folder, or ORG/NAME of the hub); scripted:NAME. Several are a jury.",
        metavar="BACKEND:NAME",
    ),
]

Prompt = Annotated[
    str,
    typer.Option(
        help="preference (default), dialogue, summary, helpful, harmless (pairs); harmful, action (yes or no); "
        "quality, summary_quality (a score).",
        rich_help_panel=_QUESTION,
    ),
]
Prompts = Annotated[Path | None, typer.Option(help="Folder of your own prompts.", rich_help_panel=_QUESTION)]
Rubric = Annotated[
    Path | None, typer.Option(help="Text file with the criteria to judge by.", rich_help_panel=_QUESTION)
]
References = Annotated[
    Path | None, typer.Option(help="Known good answers: JSON lines, or completions.", rich_help_panel=_QUESTION)
]
Reasoning = Annotated[
    bool, typer.Option("--reasoning", help="Ask for reasons before the verdict.", rich_help_panel=_QUESTION)
]
Votes = Annotated[int, typer.Option(help="How many times each question is asked.", rich_help_panel=_QUESTION)]
Limit = Annotated[int | None, typer.Option(help="At most this many pairs, a random sample.", rich_help_panel=_QUESTION)]

LedgerFile = Annotated[
    Path | None,
    typer.Option(
        help="File in which replies are kept, so that none is paid for twice; default: in --out. Runs may share one.",
        rich_help_panel=_LIMITS,
    ),
]
Concurrency = Annotated[int, typer.Option(help="Requests at the same time, at most.", rich_help_panel=_LIMITS)]
Rpm = Annotated[float | None, typer.Option(help="Requests a minute, at most.", rich_help_panel=_LIMITS)]
Tpm = Annotated[float | None, typer.Option(help="Tokens a minute, at most.", rich_help_panel=_LIMITS)]
MaxCost = Annotated[
    float | None, typer.Option(help="US dollars for each judge, at most, over all runs.", rich_help_panel=_LIMITS)
]
MaxRequests = Annotated[int | None, typer.Option(help="Requests to each judge, at most.", rich_help_panel=_LIMITS)]
Patience = Annotated[
    float | None,
    typer.Option(
        help="Seconds to wait for a server that does not answer; default 600, or 20 if the account is out of credit.",
        rich_help_panel=_LIMITS,
    ),
]
StopWhenDecided = Annotated[
    bool,
    typer.Option(
        "--stop-when-decided",
        help="Stop once an anytime interval of the win rate excludes 1/2.",
        rich_help_panel=_LIMITS,
    ),
]
HalfWidth = Annotated[
    float | None,
    typer.Option(
        help="With --stop-when-decided: stop also once the interval has this half-width.", rich_help_panel=_LIMITS
    ),
]

BaseUrl = Annotated[
    str | None,
    typer.Option(
        help="Address of the server, including /v1; default: the provider's, or OpenAI's.", rich_help_panel=_SERVER
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        help="File with the API key; default: OPENAI_API_KEY, or the provider's variable.", rich_help_panel=_SERVER
    ),
]
VerdictBy = Annotated[
    str,
    typer.Option(
        help="For a chat judge, how verdicts are given: structured, text or logprobs.", rich_help_panel=_SERVER
    ),
]
VerdictPattern = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help="Read verdicts by this regular expression: one group around A, B or tie, or groups of these names.",
        rich_help_panel=_SERVER,
    ),
]
Temperature = Annotated[float, typer.Option(help="For a chat judge: sampling temperature.", rich_help_panel=_SERVER)]
ReplyTokens = Annotated[int, typer.Option(help="Longest reply, in tokens.", rich_help_panel=_SERVER)]
Form = Annotated[str, typer.Option(help="For a decisions server: openai or systemone.", rich_help_panel=_SERVER)]
Batch = Annotated[
    bool, typer.Option("--batch", help="Ask a chat judge through the Batch API.", rich_help_panel=_SERVER)
]
BatchPoll = Annotated[float, typer.Option(help="Seconds between checks of a batch.", rich_help_panel=_SERVER)]
Timeout = Annotated[float, typer.Option(help="Seconds to wait for a reply.", rich_help_panel=_SERVER)]
PriceIn = Annotated[
    float | None, typer.Option(help="US dollars for a million tokens of input.", rich_help_panel=_SERVER)
]
PriceOut = Annotated[
    float | None, typer.Option(help="US dollars for a million tokens of output.", rich_help_panel=_SERVER)
]

TieOption = Annotated[
    bool, typer.Option("--tie-option", help="Allow ties for judges decisions: and local:.", rich_help_panel=_NEAR)
]
TieMargin = Annotated[
    float,
    typer.Option(help="Differences of probability, reward or utility up to this are ties.", rich_help_panel=_NEAR),
]
Threshold = Annotated[float, typer.Option(help="A yes above this reward or utility.", rich_help_panel=_NEAR)]
PositionBias = Annotated[
    float, typer.Option(help="For a scripted judge: bias for the first answer.", rich_help_panel=_NEAR)
]
Noise = Annotated[
    float, typer.Option(help="For a scripted judge: standard deviation of its noise.", rich_help_panel=_NEAR)
]
ChatTemplate = Annotated[
    Path | None, typer.Option(help="For a local judge whose tokenizer has none: a file.", rich_help_panel=_NEAR)
]
LocalBatch = Annotated[
    int, typer.Option(help="Questions that a local model answers before the answers are saved.", rich_help_panel=_NEAR)
]

DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Show one request and the cost of the run; ask nothing.", rich_help_panel=_INSTEAD),
]
Attack = Annotated[
    bool, typer.Option("--attack", help="Try the built-in attacks on the judge.", rich_help_panel=_INSTEAD)
]
Look = Annotated[
    bool, typer.Option("--look", help="Ask again with pictures removed, and swapped.", rich_help_panel=_INSTEAD)
]
Reread = Annotated[Path | None, typer.Option(help="Read this run's kept replies again.", rich_help_panel=_INSTEAD)]
