"""The families of the matrix, each built once."""

import families
import pytest
from sides import Sides


@pytest.fixture(scope="session", params=families.ALL)
def sides(request, tmp_path_factory):
    """One family on both sides; no test may change it."""
    return Sides(families.ALL[request.param](tmp_path_factory.mktemp("family")))
