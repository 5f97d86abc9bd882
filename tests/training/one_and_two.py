"""Runs a program by itself and in two processes with what ``accelerate launch`` would tell them, all at once.

    python one_and_two.py PROGRAM CONFIGURATION OUT ARGUMENT...

The program gets the arguments, then ``OUT-1`` or ``OUT-2``. Imports are most of what a small run takes, and its own are
done once: the three processes are forks of this one. ``test_launch.py`` goes through the launcher itself.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path


def told(configuration: Path) -> dict[str, str]:
    """Return the environment that accelerate makes of a configuration for two processes, without their ranks."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    words = ["--config_file", str(configuration), "--num_processes", "2", "--main_process_port", "0", "program"]
    arguments, *_ = _validate_launch_command(launch_command_parser().parse_args(words))
    made: dict[str, str] = prepare_multi_gpu_env(arguments)
    both = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    return made | both | {"MASTER_PORT": str(arguments.main_process_port)}


def forked(program: Path, arguments: list[str], environment: Mapping[str, str]) -> int:
    """Start the program in a copy of this process; return its number."""
    if child := os.fork():
        return child
    os.environ |= environment
    sys.argv = [str(program), *arguments]
    exec(compile(program.read_text("utf-8"), program, "exec"), {"__name__": "__main__"})
    raise SystemExit(f"{program} did not end itself")


def main(program: Path, configuration: Path, out: str, arguments: list[str]) -> None:
    """Run the three; if one fails end the others, which may wait for it, and fail."""
    import peft  # noqa: F401
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM  # noqa: F401

    from perl_eval.training import policy, reward, sft  # noqa: F401

    shared = told(configuration)
    left = {forked(program, [*arguments, f"{out}-1"], {})}
    for rank in ("0", "1"):
        left.add(forked(program, [*arguments, f"{out}-2"], shared | {"RANK": rank, "LOCAL_RANK": rank}))
    while left:
        child, status = os.wait()
        left.discard(child)
        if status:
            for other in left:
                os.kill(other, signal.SIGKILL)
            raise SystemExit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4:])
