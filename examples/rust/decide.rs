//! Asks a pool for the decision on one picture, over gRPC: `cargo run --release -p millgate-examples --example decide -- PICTURE [POOL]`.
//!
//! The messages are those of `proto/millgate/v1`. A program outside this repository generates them from there with
//! `tonic-prost-build`, or with whatever its language has.

#![expect(clippy::print_stdout, reason = "an answer is what this program is for")]

use std::error::Error;
use std::time::Duration;

use millgate_shared::proto::v1::inference_service_client::InferenceServiceClient;
use millgate_shared::proto::v1::{DecideRequest, Part, Sample};
use tonic::Request;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let picture = arguments.next().ok_or("usage: decide PICTURE [http://HOST:PORT]")?;
    let pool = arguments.next().unwrap_or_else(|| "http://127.0.0.1:8001".to_owned());

    let part = Part {
        modality: "image".to_owned(),
        // The file's own bytes: the pool decodes them.
        data: std::fs::read(&picture)?.into(),
        ..Part::default()
    };
    let sample = Sample { task: "inspect".to_owned(), parts: vec![part], ..Sample::default() };
    let mut request = Request::new(DecideRequest {
        request_id: picture,
        sample: Some(sample),
        // Error rate that is accepted of what the small experts decide alone.
        risk: 0.02,
        ..DecideRequest::default()
    });
    // The pool drops what it cannot answer in time, instead of computing it for nobody.
    request.set_timeout(Duration::from_secs(2));

    let mut pool = InferenceServiceClient::connect(pool).await?;
    let decision = pool.decide(request).await?.into_inner().decision.ok_or("an answer without a decision")?;
    let verdict = decision.verdict.ok_or("a decision without a verdict")?;
    println!("verdict  {} {:.3}", verdict.label, verdict.probability.unwrap_or(0.0));
    for expert in decision.experts {
        println!(
            "expert   {} {:.2} ({}, {} us)",
            expert.name, expert.weight, expert.r#where, expert.latency_us
        );
    }
    println!("why      {}", decision.why.map(|why| why.rule).unwrap_or_default());
    Ok(())
}
