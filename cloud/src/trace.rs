//! Traces: spans of calls for an OpenTelemetry collector, over OTLP, with the context that callers send (W3C).
//!
//! ```text
//! inference.GRPCInferenceService/ModelInfer    the call: parent from `traceparent`, status from the answer's end
//! ├ infer                                      one request: model, version, engine, request id
//! │ └ queue, join, compute, split              its phases, as the answer's parameters name them
//! └ encode                                     until the answer's bytes were ready: it cannot say that itself
//! ```
//!
//! Whether a trace is sampled is decided where it begins; a call that is not sampled costs its header's reading, and
//! with no collector named not even that. Spans wait for export in a bounded queue; what finds it full is dropped and
//! counted, and no call ever waits (`export`). Nothing here is global.

use std::sync::Arc;
use std::time::Duration;

use millgate_shared::shutdown::Tasks;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, SpanExporter as _};

use config::TracesConfig;
use counts::SpanCounts;
use settings::Settings;

mod body;
pub(crate) mod call;
pub(crate) mod config;
mod counts;
mod export;
mod layer;
mod settings;
#[cfg(test)]
mod tests;

/// An export that takes longer has failed.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why no spans can be exported.
#[derive(Debug, thiserror::Error)]
#[error("`traces.endpoint`: `{endpoint}`: {why}")]
pub struct TracesError {
    endpoint: String,
    why: String,
}

/// Where a pool's spans go, if anywhere.
#[derive(Debug)]
pub(crate) struct Traces {
    tracer: Option<SdkTracer>,
    counts: Arc<SpanCounts>,
    tasks: Tasks,
}

impl Traces {
    /// Must be called in a runtime. `node` names this instance.
    pub(crate) fn start(config: &TracesConfig, node: &str) -> Result<Self, TracesError> {
        let settings = Settings::resolve(config, |name| std::env::var(name).ok());
        let (tasks, counts) = (Tasks::new(), Arc::default());
        let Some(endpoint) = settings.endpoint else { return Ok(Self { tracer: None, counts, tasks }) };
        let refuse =
            |why: &dyn std::fmt::Display| TracesError { endpoint: endpoint.clone(), why: why.to_string() };
        if endpoint.starts_with("https:") {
            return Err(refuse(&"TLS to a collector is not offered; name one by http"));
        }
        let mut exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(&endpoint)
            .with_timeout(EXPORT_TIMEOUT)
            // A batch that fails is lost and counted; the next one finds out whether the collector is back.
            .with_retry_policy(RetryPolicy::disabled())
            .build()
            .map_err(|error| refuse(&error))?;
        let mut resource = Resource::builder();
        if let Some(name) = settings.service_name {
            resource = resource.with_service_name(name);
        }
        let resource = resource
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("service.instance.id", node.to_owned()))
            .build();
        exporter.set_resource(&resource);
        let queue = export::start(exporter, &endpoint, Arc::clone(&counts), &tasks);
        let ratio = Sampler::TraceIdRatioBased(config.sample_ratio);
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(Sampler::ParentBased(Box::new(ratio)))
            .with_span_processor(queue)
            .build();
        tracing::info!(endpoint, sample_ratio = config.sample_ratio, "traces are exported");
        Ok(Self { tracer: Some(provider.tracer("millgate-cloud")), counts, tasks })
    }

    /// A collector is named, and spans go there.
    pub(crate) fn are_exported(&self) -> bool {
        self.tracer.is_some()
    }

    pub(crate) fn counts(&self) -> Arc<SpanCounts> {
        Arc::clone(&self.counts)
    }

    /// For gRPC and plain HTTP alike; the outermost layer, so that every answer is seen.
    pub(crate) fn layer(&self) -> layer::TraceLayer {
        layer::TraceLayer::new(self.tracer.clone())
    }

    /// Exports what has ended, for so long at most.
    pub(crate) async fn drain(&self, bound: Duration) {
        if self.tasks.drain(bound).await > 0 {
            tracing::warn!("spans are left that the collector did not take in time");
        }
    }

    pub(crate) fn stop(&self) {
        self.tasks.stop();
    }
}
