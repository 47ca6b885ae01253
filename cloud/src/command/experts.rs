//! `experts`: what a running pool holds.

use std::io::Write;
use std::time::Duration;

use millgate_shared::bundle::hex;
use millgate_shared::proto::v1;
use millgate_shared::proto::v1::expert_service_client::ExpertServiceClient;
use serde_json::json;
use tonic::transport::Endpoint;

use super::{CommandError, Output, table};

/// A pool that has not answered by then is taken for dead.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the pool at `url`.
pub async fn experts(url: &str, output: Output, out: &mut impl Write) -> Result<(), CommandError> {
    let bad_url = || CommandError::Url { url: url.to_owned() };
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| bad_url())?;
    if endpoint.uri().scheme_str() != Some("http") || endpoint.uri().host().is_none() {
        return Err(bad_url());
    }
    let failed = |reason: String| CommandError::Pool { url: url.to_owned(), reason };
    let asked = async {
        let channel = endpoint.connect().await.map_err(|error| failed(causes(&error)))?;
        let listed = ExpertServiceClient::new(channel).list_experts(v1::ListExpertsRequest {}).await;
        listed.map_err(|status| failed(format!("{:?}: {}", status.code(), status.message())))
    };
    let late = || failed(format!("no answer within {} s", PATIENCE.as_secs()));
    let listed = tokio::time::timeout(PATIENCE, asked).await.map_err(|_| late())??.into_inner();
    match output {
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

/// "transport error" alone helps nobody.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
