"""Prometheus metrics of one server, in a registry of its own, under TEI's names.

`prometheus-client` ends the names of counters in `_total`; otherwise a dashboard made for TEI finds what it looks for.
"""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
_TOKENS = (16, 64, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)

CONTENT_TYPE = CONTENT_TYPE_LATEST
"""Content type of what `Metrics.render` returns."""


class Metrics:
    """What a server counts. Labels come from closed sets, so their number is bounded whatever clients send.

    Attributes:
        requests: Accepted or not, by route.
        success: Answered below 400, by route.
        failure: Failed requests by kind of error.
        duration: Seconds from the first byte of a request to the answer, by route.
        tokenization: Seconds in which a request's texts were tokenized.
        queued: Seconds in which a request waited for the model.
        inference: Seconds of a turn of the model.
        input_tokens: Tokens of a request.
        batch_size: Requests in a turn of the model.
        batch_tokens: Tokens in a turn of the model.
        queue_size: Requests that wait now.
        queue_tokens: Tokens that wait now.
        truncated: Texts that were cut to the model's limit.
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # resident memory, open files, time on the processor
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        seconds = partial(Histogram, buckets=_SECONDS, registry=registry)
        tokens = partial(Histogram, buckets=_TOKENS, registry=registry)
        self.requests = counter("te_request_count", "Requests.", ["method"])
        self.success = counter("te_request_success", "Requests that were answered.", ["method"])
        self.failure = counter("te_request_failure", "Requests that were refused or failed.", ["err"])
        self.duration = seconds("te_request_duration", "Seconds of a request.", ["method"])
        self.tokenization = seconds("te_request_tokenization_duration", "Seconds of a request in the tokenizer.")
        self.queued = seconds("te_request_queue_duration", "Seconds of a request in the queue.")
        self.inference = seconds("te_request_inference_duration", "Seconds of a turn of the model.")
        self.input_tokens = tokens("te_request_input_length", "Tokens of a request.")
        self.batch_size = Histogram(
            "te_batch_next_size", "Requests in a turn of the model.", buckets=_COUNTS, registry=registry
        )
        self.batch_tokens = tokens("te_batch_next_tokens", "Tokens in a turn of the model.")
        self.queue_size = gauge("te_queue_size", "Requests that wait for the model.")
        self.queue_tokens = gauge("te_queue_tokens", "Tokens that wait for the model.")
        self.truncated = counter("te_truncated_inputs", "Texts that were cut to the limit.")

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)
