//! `experts`: what a running pool holds.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millgate_shared::digest::hex;
use millgate_shared::identity::dial::{self, DialError};
use millgate_shared::identity::{Floor, Roots, pem, tls};
use millgate_shared::proto::v1;
use millgate_shared::proto::v1::expert_service_client::ExpertServiceClient;
use millgate_shared::text_file;
use serde_json::json;
use tonic::Request;
use tonic::metadata::MetadataValue;

use super::{CommandError, Output, table};
use crate::identity::StateError;

/// A pool that has not answered by then is taken for dead.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, clap::Args)]
pub struct ExpertsArgs {
    /// URL of the pool's gRPC port
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8001")]
    pub pool: String,
    /// PEM file of the authority that signed the pool's certificate (`ca.pem` in its `state_dir`)
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// File that holds an API token, as `millgate-cloud api-token create` printed it
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// How to write the answer
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Asks a pool.
pub async fn experts(args: &ExpertsArgs, out: &mut impl Write) -> Result<(), CommandError> {
    let url = &args.pool;
    let failed = |reason: String| CommandError::Pool { url: url.clone(), reason };
    let clock = Arc::new(Floor::unkept());
    let authorities = args.ca.as_deref().map_or_else(|| Ok(Vec::new()), pem::certificates);
    let authorities = authorities.map_err(StateError::from)?;
    let roots = Roots::new(authorities, Arc::clone(&clock));
    let path = || args.ca.clone().unwrap_or_default();
    let roots = roots.map_err(|source| StateError::Roots { path: path(), source })?;
    let tls = tls::client(roots, None, clock, &[dial::H2]);
    let channel = dial::dial(url, &tls, PATIENCE).await.map_err(|error| match error {
        DialError::Url(url) => CommandError::Url { url },
        error => CommandError::Dial(error),
    })?;
    let mut request = Request::new(v1::ListExpertsRequest::default());
    if let Some(path) = &args.token_file {
        let token = text_file::read(path);
        let token = token.map_err(|source| StateError::Io { path: path.clone(), source })?;
        let bearer = MetadataValue::try_from(format!("Bearer {}", token.trim()));
        let bearer = bearer.map_err(|_| CommandError::Value(format!("{}: is no token", path.display())))?;
        request.metadata_mut().insert("authorization", bearer);
    }
    let late = |_| failed(format!("no answer within {} s", PATIENCE.as_secs()));
    let mut client = ExpertServiceClient::new(channel);
    let listed = tokio::time::timeout(PATIENCE, client.list_experts(request)).await.map_err(late)?;
    let listed = listed.map_err(|status| failed(format!("{:?}: {}", status.code(), status.message())))?;
    let listed = listed.into_inner();
    match args.output {
        Output::Text => write_text(&listed, out),
        Output::Json => write_json(&listed, out),
    }
}

fn write_text(listed: &v1::ListExpertsResponse, out: &mut impl Write) -> Result<(), CommandError> {
    let digest = hex(&listed.bundle_digest);
    writeln!(out, "node    {}", listed.node)?;
    writeln!(out, "bundle  {} {}  sha256:{digest}\n", listed.bundle_name, listed.bundle_version)?;
    let rows: Vec<Vec<String>> = listed.experts.iter().map(row).collect();
    table::write(out, &["expert", "tier", "ready", "us/sample", "MACs", "labels", "inputs", "tasks"], &rows)?;
    Ok(())
}

fn row(expert: &v1::ExpertInfo) -> Vec<String> {
    let inputs: Vec<String> = expert.inputs.iter().map(input).collect();
    vec![
        expert.name.clone(),
        expert.tier.clone(),
        if expert.ready { "yes" } else { "no" }.to_owned(),
        table::grouped(expert.latency_us),
        table::grouped(expert.macs),
        expert.labels.len().to_string(),
        inputs.join(", "),
        expert.tasks.join(", "),
    ]
}

fn input(input: &v1::ExpertInput) -> String {
    let shape: Vec<String> = input.shape.iter().map(i64::to_string).collect();
    format!("{} {}", input.modality, shape.join("x"))
}

fn write_json(listed: &v1::ListExpertsResponse, out: &mut impl Write) -> Result<(), CommandError> {
    let experts = listed.experts.iter().map(|expert| {
        let inputs = expert.inputs.iter();
        let inputs = inputs.map(|input| json!({ "modality": input.modality, "shape": input.shape }));
        json!({
            "name": expert.name,
            "tier": expert.tier,
            "tasks": expert.tasks,
            "labels": expert.labels,
            "inputs": inputs.collect::<Vec<_>>(),
            "ready": expert.ready,
            "macs": expert.macs,
            "latency_us": expert.latency_us,
        })
    });
    let digest = format!("sha256:{}", hex(&listed.bundle_digest));
    let bundle = json!({ "name": listed.bundle_name, "version": listed.bundle_version, "digest": digest });
    writeln!(
        out,
        "{}",
        json!({ "node": listed.node, "bundle": bundle, "experts": experts.collect::<Vec<_>>() })
    )?;
    Ok(())
}
