//! What this node holds, for those who ask: of its experts, those that they may run.

use std::sync::Arc;

use millgate_shared::bundle::manifest::Expert;
use millgate_shared::proto::v1;

use super::digest;
use crate::access::may_run;
use crate::access::rights::Rights;
use crate::failure::Failure;
use crate::hosted::Hosted;
use crate::pool::Pool;
use crate::serving::run::Deployed;

/// The experts of the bundle with the digest `asked`, or of the active one where it is empty.
pub(super) fn list(pool: &Pool, asked: &[u8], rights: &Rights) -> Result<v1::ListExpertsResponse, Failure> {
    let hosted = match asked.is_empty() {
        true => pool.bundle()?,
        false => pool.bundle_of(digest::read(asked)?)?,
    };
    let before = pool.before().map(|before| before.hosted);
    let manifest = hosted.manifest();
    let latency_us = |served: &Arc<Deployed>| pool.serving().expected(served).as_micros() as u64;
    let told =
        |expert, served: &Arc<Deployed>| info(expert, latency_us(served), served.set_aside().is_none());
    let experts = manifest.experts.iter().zip(hosted.experts());
    let experts = experts.filter(|(expert, _)| may_run(rights, Some(manifest), &expert.name).is_ok());
    Ok(v1::ListExpertsResponse {
        bundle_name: manifest.name.clone(),
        bundle_version: manifest.version.clone(),
        bundle_digest: hosted.digest().as_bytes().to_vec().into(),
        node: pool.node().to_owned(),
        experts: experts.map(|(expert, served)| told(expert, served)).collect(),
        life: pool.life().to_owned(),
        bundles: pool.hosted().iter().chain(&before).map(|hosted| bundle(hosted)).collect(),
    })
}

fn bundle(hosted: &Hosted) -> v1::AnsweredBundle {
    let manifest = hosted.manifest();
    v1::AnsweredBundle {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        digest: hosted.digest().as_bytes().to_vec().into(),
    }
}

/// `ready`: a pool whose golden samples have not passed does not exist, but a model may have been set aside since.
fn info(expert: &Expert, latency_us: u64, ready: bool) -> v1::ExpertInfo {
    let inputs = expert.inputs.iter();
    v1::ExpertInfo {
        name: expert.name.clone(),
        tier: expert.tier.as_str().to_owned(),
        tasks: expert.tasks.clone(),
        labels: expert.labels.clone(),
        inputs: inputs
            .map(|input| v1::ExpertInput {
                modality: input.name.clone(),
                shape: input.shape.iter().map(|axis| *axis as i64).collect(),
            })
            .collect(),
        ready,
        macs: expert.cost.macs,
        latency_us,
    }
}
