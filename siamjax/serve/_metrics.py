"""Figures of a service, in Prometheus's text format."""

import prometheus_client


class Metrics:
    """Requests and their times, images in each batch."""

    def __init__(self) -> None:
        self._registry = prometheus_client.CollectorRegistry()
        self._requests = prometheus_client.Counter(
            "siamjax_requests", "Requests, by path and status", ["path", "status"], registry=self._registry
        )
        self._seconds = prometheus_client.Histogram(
            "siamjax_request_seconds",
            "From the head of a request to its answer",
            ["path"],
            registry=self._registry,
        )
        self._batches = prometheus_client.Histogram(
            "siamjax_batch_images", "Images in a batch", buckets=(1, 2, 4, 8, 16, 32), registry=self._registry
        )

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Counts a request: the template of its path, the status of the answer, and its time."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def batch(self, images: int) -> None:
        """Counts a batch of this number of images."""
        self._batches.observe(images)

    def text(self) -> bytes:
        """All figures."""
        return prometheus_client.generate_latest(self._registry)
