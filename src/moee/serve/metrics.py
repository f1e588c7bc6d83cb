"""Prometheus metrics of one server, in a registry of its own, under TEI's names.

`prometheus-client` ends the names of counters in `_total`; otherwise a dashboard made for TEI finds what it looks for.
"""

from __future__ import annotations

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
        registry = CollectorRegistry()
        self._registry = registry
        ProcessCollector(registry=registry)  # resident memory, open files, time on the processor
        self.requests = Counter("te_request_count", "Requests.", ["method"], registry=registry)
        self.success = Counter("te_request_success", "Requests that were answered.", ["method"], registry=registry)
        self.failure = Counter(
            "te_request_failure", "Requests that were refused or failed.", ["err"], registry=registry
        )
        self.duration = Histogram(
            "te_request_duration", "Seconds of a request.", ["method"], buckets=_SECONDS, registry=registry
        )
        self.tokenization = self._histogram(
            "te_request_tokenization_duration", "Seconds of a request in the tokenizer.", _SECONDS
        )
        self.queued = self._histogram("te_request_queue_duration", "Seconds of a request in the queue.", _SECONDS)
        self.inference = self._histogram("te_request_inference_duration", "Seconds of a turn of the model.", _SECONDS)
        self.input_tokens = self._histogram("te_request_input_length", "Tokens of a request.", _TOKENS)
        self.batch_size = self._histogram("te_batch_next_size", "Requests in a turn of the model.", _COUNTS)
        self.batch_tokens = self._histogram("te_batch_next_tokens", "Tokens in a turn of the model.", _TOKENS)
        self.queue_size = Gauge("te_queue_size", "Requests that wait for the model.", registry=registry)
        self.queue_tokens = Gauge("te_queue_tokens", "Tokens that wait for the model.", registry=registry)
        self.truncated = Counter("te_truncated_inputs", "Texts that were cut to the limit.", registry=registry)

    def _histogram(self, name: str, says: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, says, buckets=buckets, registry=self._registry)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)
