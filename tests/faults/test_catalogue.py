"""docs/faults.md: what it says of the tests is so."""

import pytest

from tests.faults import catalogue

FAULTS = [fault for faults in catalogue.FAULTS.values() for fault in faults]


@pytest.fixture(scope="module")
def found():
    return catalogue.tests()


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_has_a_test(fault, found):
    assert found[fault] != []


def test_no_test_is_named_after_a_fault_that_is_not_listed(found):
    assert set(found) == set(FAULTS)


def test_the_page_is_up_to_date():
    assert catalogue.PAGE.read_text() == catalogue.page(), "python -m tests.faults.catalogue writes it anew"
