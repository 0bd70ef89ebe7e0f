"""The garbage collector is calm meanwhile, and afterwards as it was."""

import gc
import weakref

import pytest

from duologue.core.concurrency import calm_collection


class Ring:
    """Cyclic garbage as soon as nobody holds it."""

    def __init__(self):
        self.me = self


def test_thresholds_and_frozen_objects_are_as_before_whatever_happens():
    before = gc.get_threshold(), gc.get_freeze_count()
    with pytest.raises(ValueError, match="in the middle"), calm_collection():
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold()[0] >= before[0][0]
        raise ValueError("in the middle")
    assert (gc.get_threshold(), gc.get_freeze_count()) == before


def test_what_becomes_garbage_meanwhile_is_collected():
    outer = Ring()
    outside = weakref.ref(outer)
    with calm_collection():
        inner = Ring()
        inside = weakref.ref(inner)
        del inner, outer
        gc.collect()
        assert inside() is None
        assert outside() is not None
    gc.collect()
    assert outside() is None


def test_what_somebody_else_froze_stays_frozen():
    gc.freeze()
    try:
        with calm_collection():
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_a_collector_that_is_off_stays_off():
    before = gc.get_threshold()
    gc.set_threshold(0)
    try:
        with calm_collection():
            assert gc.get_threshold()[0] == 0
    finally:
        gc.set_threshold(*before)
