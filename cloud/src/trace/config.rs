//! `[traces]`: where spans go.

use serde::Deserialize;

/// `[traces]`: spans for an OpenTelemetry collector, over OTLP with gRPC.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TracesConfig {
    /// The collector, such as `http://127.0.0.1:4317`; empty: none. Where it is absent, the environment's
    /// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT counts. Default absent.
    pub endpoint: Option<String>,
    /// The share of calls that are traced, of those that bring no decision along, from 0 to 1. Default 1.
    pub sample_ratio: f64,
    /// Where it is absent, the environment's OTEL_SERVICE_NAME or the name in OTEL_RESOURCE_ATTRIBUTES counts, then
    /// `millgate-cloud`. Default absent.
    pub service_name: Option<String>,
}

impl Default for TracesConfig {
    fn default() -> Self {
        Self { endpoint: None, sample_ratio: 1.0, service_name: None }
    }
}

impl TracesConfig {
    /// What cannot be used: its key, and why.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        let refuse = |key, message: String| Err((key, message));
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return refuse("traces.sample_ratio", format!("{} is not between 0 and 1", self.sample_ratio));
        }
        match &self.service_name {
            Some(name) if name.is_empty() => refuse("traces.service_name", "is empty".to_owned()),
            _ => Ok(()),
        }
    }
}
