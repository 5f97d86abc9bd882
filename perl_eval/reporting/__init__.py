"""One self-contained page of everything that some run folders hold.

`run` reads run folders and writes one HTML file that opens from disk and asks the network for nothing, or the same
estimates as Markdown or JSON.
"""

from perl_eval.reporting.page import run

__all__ = ["run"]
