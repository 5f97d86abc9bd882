"""One self-contained page of everything that some run folders hold.

`run` reads run folders and writes one HTML file that opens from disk and asks the network for nothing, or the same
estimates as Markdown, JSON, CSV or LaTeX. `write_rows_out` writes judgements, labels and completions as such tables.
`serve` follows runs that go on.
"""

from perl_eval.reporting.live import serve
from perl_eval.reporting.page import run
from perl_eval.reporting.rows_out import write_rows_out

__all__ = ["run", "serve", "write_rows_out"]
