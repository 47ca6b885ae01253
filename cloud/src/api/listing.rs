//! What this node holds, for those who ask.

use millgate_shared::bundle::manifest::Expert;
use millgate_shared::proto::v1;

use crate::pool::Pool;

pub(super) fn list(pool: &Pool) -> v1::ListExpertsResponse {
    let manifest = pool.manifest();
    let experts = manifest.experts.iter().enumerate();
    v1::ListExpertsResponse {
        bundle_name: manifest.name.clone(),
        bundle_version: manifest.version.clone(),
        bundle_digest: pool.digest().as_bytes().to_vec().into(),
        node: pool.node().to_owned(),
        experts: experts.map(|(at, expert)| info(expert, pool.latency(at).as_micros() as u64)).collect(),
    }
}

fn info(expert: &Expert, latency_us: u64) -> v1::ExpertInfo {
    let inputs = expert.inputs.iter();
    v1::ExpertInfo {
        name: expert.name.clone(),
        tier: expert.tier.as_str().to_owned(),
        tasks: expert.tasks.clone(),
        labels: expert.labels.clone(),
        inputs: inputs
            .map(|input| v1::ExpertInput {
                modality: input.modality.clone(),
                shape: input.shape.iter().map(|axis| *axis as i64).collect(),
            })
            .collect(),
        // A pool whose golden samples have not passed does not exist.
        ready: true,
        macs: expert.cost.macs,
        latency_us,
    }
}
