"""What Prometheus reads."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from moee import MoEE
from tests.serve.conftest import Running, Serve


def samples(server: Running) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = server.client.get("/metrics").text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_requests_tokens_and_turns_are_counted(serve: Serve, fake: MoEE) -> None:
    with serve(fake) as server:
        answer = server.post("/embed", inputs=["a b c", "d"])
        server.post("/embed", inputs="")
        server.client.get("/nothing")
        found = samples(server)
        assert server.client.get("/metrics").headers["content-type"].startswith("text/plain")
    assert found["te_request_count_total", (("method", "/embed"),)] == 2
    assert found["te_request_success_total", (("method", "/embed"),)] == 1
    assert found["te_request_failure_total", (("err", "empty"),)] == 1
    assert found["te_request_count_total", (("method", "unknown"),)] == 1  # no label for what a client made up
    assert found["te_request_duration_count", (("method", "/embed"),)] == 2
    assert found["te_request_input_length_sum", ()] == int(answer.headers["x-compute-tokens"])
    for name in ("te_batch_next_size", "te_batch_next_tokens", "te_request_queue_duration"):
        assert found[f"{name}_count", ()] == 1
    assert found["te_queue_size", ()] == found["te_queue_tokens", ()] == 0
    assert found["process_resident_memory_bytes", ()] > 0


def test_servers_in_one_process_count_for_themselves(serve: Serve, fake: MoEE) -> None:
    with serve(fake) as one, serve(fake) as other:
        one.post("/embed", inputs="a")
        assert ("te_request_count_total", (("method", "/embed"),)) in samples(one)
        assert ("te_request_count_total", (("method", "/embed"),)) not in samples(other)
