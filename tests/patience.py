"""How long tests wait for what must happen."""

from __future__ import annotations

from typing import Final

# Seconds. Nothing takes this long where the program works, however busy the machine is: it only ends
# a run that would hang.
PATIENCE: Final = 60.0
