"""What /metrics says."""

from ai_proxy.core.metrics import Metrics


def test_a_number_that_others_keep_is_a_counter_by_its_name_and_else_a_gauge():
    metrics = Metrics()
    metrics.watch("aiproxy_things_lost_total", "Things lost.", lambda: 3)
    metrics.watch("aiproxy_things_waiting", "Things waiting.", lambda: 2)

    lines = metrics.render().decode().splitlines()

    assert {"# TYPE aiproxy_things_lost_total counter", "aiproxy_things_lost_total 3.0"} <= set(lines)
    assert {"# TYPE aiproxy_things_waiting gauge", "aiproxy_things_waiting 2.0"} <= set(lines)


def test_a_counter_that_others_keep_is_read_anew_each_time():
    metrics, counts = Metrics(), iter([1, 4])
    metrics.watch("aiproxy_things_lost_total", "Things lost.", lambda: next(counts))

    first, second = metrics.render().decode(), metrics.render().decode()

    assert "aiproxy_things_lost_total 1.0" in first
    assert "aiproxy_things_lost_total 4.0" in second
