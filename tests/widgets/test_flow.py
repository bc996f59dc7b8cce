"""Back-pressure, with a browser that acknowledges as each test says."""

import threading
import time
from dataclasses import dataclass

import pytest

from widgets.flow import PATIENCE, Flow


@dataclass(frozen=True)
class Item:
    number: int


@pytest.fixture
def sent():
    return []


@pytest.fixture
def flow(sent):
    one = Flow(sent.append)
    yield one
    one.close()


def numbers(sent):
    return [item.number for item in sent]


def test_two_go_and_of_the_rest_the_newest_waits(flow, sent):
    for i in range(10):
        flow.offer(Item(i))
    assert numbers(sent) == [0, 1]
    flow.acknowledge(0)
    assert numbers(sent) == [0, 1, 9]


def test_acknowledging_a_later_one_covers_the_earlier(flow, sent):
    for i in range(4):
        flow.offer(Item(i))
    flow.acknowledge(1)
    assert numbers(sent) == [0, 1, 3]
    flow.offer(Item(4))
    assert numbers(sent) == [0, 1, 3, 4]


def test_the_last_goes_out_though_nothing_is_acknowledged(flow, sent):
    for i in range(10):
        flow.offer(Item(i))
    time.sleep(PATIENCE + 0.3)
    assert numbers(sent) == [0, 1, 9]


def test_without_acknowledgements_it_keeps_a_slow_pace(flow, sent):
    end = time.monotonic() + 3 * PATIENCE
    count = 0
    while time.monotonic() < end:
        flow.offer(Item(count))
        count += 1
        time.sleep(0.005)
    assert 4 <= len(sent) <= 9 < count


def test_what_was_dropped_or_closed_is_not_sent(flow, sent):
    for i in range(5):
        flow.offer(Item(i))
    flow.drop()
    flow.acknowledge(1)
    assert numbers(sent) == [0, 1]
    flow.close()
    flow.offer(Item(9))
    assert numbers(sent) == [0, 1]


def test_many_threads_may_offer_at_once(flow, sent):
    def work(start):
        for i in range(200):
            flow.offer(Item(start + i))
            flow.acknowledge(start + i)

    threads = [threading.Thread(target=work, args=(1000 * k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    flow.offer(Item(9999))
    flow.acknowledge(9998)
    assert numbers(sent)[-1] == 9999
    assert len(set(numbers(sent))) == len(sent)
