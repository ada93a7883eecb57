"""Nothing is planned that does not run: each accepted model type, tiny, goes all the way to an export (second half).

The types are those of models/families.py; the other half is in the other file, so that two workers share them.
"""

from __future__ import annotations

import pytest

from family_rows import SECOND, assert_went_the_whole_way
from whole_way import walked


@pytest.fixture(scope="module")
def seen(workers, tmp_path_factory):
    return walked(workers, SECOND, tmp_path_factory.mktemp("types"))


@pytest.mark.train
@pytest.mark.parametrize("model_type", SECOND)
def test_a_type_that_is_planned_trains_and_loads_again(seen, model_type):
    assert_went_the_whole_way(seen[model_type])
