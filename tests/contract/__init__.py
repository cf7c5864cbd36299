from __future__ import annotations

import pytest

# The contract lives outside the test tree; its assertions explain themselves all the same.
pytest.register_assert_rewrite("shared.storage.testing")
