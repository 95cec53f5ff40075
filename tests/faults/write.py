"""Write docs/faults.md from the registry: ``python tests/faults/write.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.faults.catalogue import FAULTS
from tests.faults.page import PAGE, page

if __name__ == "__main__":
    PAGE.write_text(page(FAULTS), encoding="utf-8")
    print(f"written: {PAGE}, {len(FAULTS)} faults")
