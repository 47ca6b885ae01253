//! The decision record as protobuf: the same fields as its JSON.

use millgate_model::decision::{
    BundleInfo, Decision, Degraded, ExpertShare, FailedCheck, Note, SampleInfo, State, Timings, Verdict, Why,
};

use millgate_model::novelty::{Neighbour, Novelty};

use crate::proto::v1;

impl From<Decision> for v1::Decision {
    fn from(decision: Decision) -> Self {
        Self {
            id: decision.id,
            version: decision.version,
            state: match decision.state {
                State::Final => v1::DecisionState::Final,
                State::Provisional => v1::DecisionState::Provisional,
                State::Amended => v1::DecisionState::Amended,
            }
            .into(),
            task: decision.task,
            sample: Some(decision.sample.into()),
            verdict: Some(decision.verdict.into()),
            probabilities: decision.probabilities.into_iter().collect(),
            experts: decision.experts.into_iter().map(Into::into).collect(),
            degraded: decision.degraded.map(Into::into),
            why: Some(decision.why.into()),
            uplink_bytes: decision.uplink_bytes,
            bundle: Some(decision.bundle.into()),
            timings_us: Some(decision.timings_us.into()),
            disposition: decision
                .disposition
                .map_or_else(String::new, |disposition| disposition.as_str().to_owned()),
            novelty: decision.novelty.map(Into::into),
            checks: decision.checks.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<SampleInfo> for v1::SampleInfo {
    fn from(sample: SampleInfo) -> Self {
        Self {
            path: sample.path,
            source: sample.source.unwrap_or_default(),
            part_id: sample.part_id.unwrap_or_default(),
            captured_at: sample.captured_at.unwrap_or_default(),
            sha256: sample.sha256,
            modalities: sample.modalities,
            notes: sample.notes.into_iter().map(Into::into).collect(),
            region: sample.region.map_or_else(Vec::new, Into::into),
            regions: sample.regions.unwrap_or_default(),
        }
    }
}

impl From<Note> for v1::Note {
    fn from(Note { modality, code, message }: Note) -> Self {
        Self { modality, code, message }
    }
}

impl From<Verdict> for v1::Verdict {
    fn from(Verdict { label, probability }: Verdict) -> Self {
        Self { label, probability }
    }
}

impl From<Novelty> for v1::Novelty {
    fn from(novelty: Novelty) -> Self {
        let Novelty { p, bound, product, detector, nearest, likeliest } = novelty;
        let nearest = nearest.into_iter().map(Into::into).collect();
        Self { p, bound, product, detector, nearest, likeliest: likeliest.unwrap_or_default() }
    }
}

impl From<Neighbour> for v1::Neighbour {
    fn from(Neighbour { sample, label, distance }: Neighbour) -> Self {
        Self { sample, label, distance }
    }
}

impl From<FailedCheck> for v1::FailedCheck {
    fn from(FailedCheck { modality, check, value, bounds }: FailedCheck) -> Self {
        Self { modality, check, value, bounds: bounds.into() }
    }
}

impl From<ExpertShare> for v1::ExpertShare {
    fn from(share: ExpertShare) -> Self {
        Self {
            name: share.name,
            r#where: share.place,
            weight: share.weight,
            latency_us: share.latency_us,
            engine: share.engine,
            batch: share.batch,
            competence: share.competence,
        }
    }
}

impl From<Degraded> for v1::Degraded {
    fn from(degraded: Degraded) -> Self {
        let missing = degraded.missing.into_iter();
        Self {
            reason: degraded.reason.as_str().to_owned(),
            missing: missing
                .map(|missing| v1::MissingExpert {
                    name: missing.name,
                    reason: missing.reason.as_str().to_owned(),
                })
                .collect(),
            weight_mass: degraded.weight_mass,
            later: degraded.later.map_or_else(String::new, |later| later.as_str().to_owned()),
        }
    }
}

impl From<Why> for v1::Why {
    fn from(why: Why) -> Self {
        Self {
            rule: why.rule,
            gate: why.gate.into_iter().collect(),
            price: why.price.into_iter().collect(),
            masked: why.masked.into_iter().collect(),
            local_risk: why.local_risk,
            threshold: why.threshold,
        }
    }
}

impl From<BundleInfo> for v1::BundleInfo {
    fn from(BundleInfo { name, version, digest }: BundleInfo) -> Self {
        Self { name, version, digest }
    }
}

impl From<Timings> for v1::Timings {
    fn from(timings: Timings) -> Self {
        let Timings { decode, encode, gate, local, uplink, combine, total } = timings;
        Self { decode, encode, gate, local, uplink, combine, total }
    }
}
