//! The text that `/metrics` answers: OpenMetrics for whoever asks for it, else the older text format of Prometheus.
//!
//! A page is rendered as OpenMetrics. `accept`: which of the two a client wants. `classic`: the page in the older one.

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

mod accept;
mod classic;

/// A form that a page can be sent in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4, which every scraper reads.
    Classic,
}

impl Format {
    /// Format that a client wants by the values of its `Accept` headers; the classic one if it names neither.
    pub fn wanted<'a>(accept: impl IntoIterator<Item = &'a [u8]>) -> Self {
        accept::choose(accept)
    }

    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// A registry whose names begin with `millgate_`; it holds what every process counts.
pub fn registry() -> Registry {
    let mut registry = Registry::with_prefix("millgate");
    crate::telemetry::register(&mut registry);
    registry
}

/// Renders the metrics of both registries as one page. `foreign` has those under names of another system, whose
/// counters do not end in `_total`: they are `unknown` in OpenMetrics, which knows no such counters, and counters in
/// the classic format, which does.
pub fn render(format: Format, registry: &Registry, foreign: Option<&Registry>) -> String {
    let mut text = open_metrics(registry);
    let foreign = foreign.map(open_metrics).unwrap_or_default();
    match format {
        Format::OpenMetrics => {
            text += &foreign;
            // Writing to a String cannot fail, here and below.
            let _infallible = encode_eof(&mut text);
            text
        }
        Format::Classic => {
            classic::from_open_metrics(&text, "untyped") + &classic::from_open_metrics(&foreign, "counter")
        }
    }
}

/// Metrics of one registry, as OpenMetrics without its end mark.
fn open_metrics(registry: &Registry) -> String {
    let mut text = String::new();
    let _infallible = encode_registry(&mut text, registry);
    text
}

/// Buckets for durations in seconds: 50 µs to about 6.5 s, each twice the one before.
pub fn latency_histogram() -> Histogram {
    Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(50e-6, 2.0, 18))
}
