"""The fake server of the judges' tests answers prompts here."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "judges"))
