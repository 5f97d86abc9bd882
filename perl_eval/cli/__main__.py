"""``python -m perl_eval.cli``, for launchers that start modules."""

from __future__ import annotations

from perl_eval.cli.program import main

if __name__ == "__main__":
    main()
