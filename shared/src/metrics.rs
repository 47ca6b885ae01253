//! The text that `/metrics` answers.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The content type of the OpenMetrics text format.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// An empty registry whose names begin with `millgate_`.
pub fn registry() -> Registry {
    Registry::with_prefix("millgate")
}

/// All metrics, as text.
pub fn render(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _infallible = encode(&mut text, registry);
    text
}

/// Buckets for durations in seconds: 50 µs to about 6.5 s, each twice the one before.
pub fn latency_histogram() -> Histogram {
    Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(50e-6, 2.0, 18))
}
