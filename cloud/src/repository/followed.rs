//! What of a configuration is followed: which versions, how rows are batched, who waits how long. What is not followed
//! and changes nothing but speed is named, so that nobody counts on it.

use std::time::Duration;

use millgate_shared::proto::inference::model_config::SchedulingChoice;
use millgate_shared::proto::inference::model_queue_policy::TimeoutAction;
use millgate_shared::proto::inference::model_version_policy::PolicyChoice;
use millgate_shared::proto::inference::{
    ModelConfig, ModelDynamicBatching, ModelQueuePolicy, ModelVersionPolicy,
};

use crate::serving::Batching;
use crate::serving::policy::{Level, QueuePolicy};
use crate::serving::served::Traits;

/// Which versions are served.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    /// Versions to serve, lowest first.
    pub(super) versions: Vec<u64>,
    /// Versions that the policy names and that are not there.
    pub(super) absent: Vec<u64>,
}

/// Chooses from `found`, lowest first, by the policy; without a policy the highest alone.
pub(super) fn versions(policy: Option<&ModelVersionPolicy>, found: &[u64]) -> Result<Chosen, String> {
    let latest = |count: usize| found[found.len().saturating_sub(count)..].to_vec();
    let mut absent = Vec::new();
    let versions = match policy.and_then(|policy| policy.policy_choice.as_ref()) {
        None => latest(1),
        Some(PolicyChoice::All(_)) => found.to_vec(),
        Some(PolicyChoice::Latest(of)) if of.num_versions == 0 => {
            return Err("version_policy.latest.num_versions: must be at least 1".to_owned());
        }
        Some(PolicyChoice::Latest(of)) => latest(of.num_versions as usize),
        Some(PolicyChoice::Specific(of)) => {
            let mut named = Vec::with_capacity(of.versions.len());
            for version in &of.versions {
                match u64::try_from(*version) {
                    Ok(version) if version > 0 => named.push(version),
                    _ => return Err(format!("version_policy.specific.versions: {version} is no version")),
                }
            }
            named.sort_unstable();
            named.dedup();
            let (here, missing): (Vec<u64>, Vec<u64>) =
                named.into_iter().partition(|version| found.contains(version));
            if here.is_empty() {
                return Err(format!("version_policy.specific.versions: of {:?} none is here", of.versions));
            }
            absent = missing;
            here
        }
    };
    Ok(Chosen { versions, absent })
}

pub(super) fn traits(config: &ModelConfig) -> Result<(Traits, Batching), String> {
    let none = ModelDynamicBatching::default();
    let dynamic = match &config.scheduling_choice {
        Some(SchedulingChoice::DynamicBatching(dynamic)) => dynamic,
        _ => &none,
    };
    let most = usize::try_from(config.max_batch_size).unwrap_or(0);
    let mut preferred = Vec::with_capacity(dynamic.preferred_batch_size.len());
    for size in &dynamic.preferred_batch_size {
        match usize::try_from(*size) {
            Ok(size) if size > 0 && (most == 0 || size <= most) => preferred.push(size),
            _ => {
                let what = format!("{size} is not within 1..={most}, max_batch_size");
                return Err(format!("dynamic_batching.preferred_batch_size: {what}"));
            }
        }
    }
    let batching = Batching { delay: Duration::from_micros(dynamic.max_queue_delay_microseconds), preferred };
    // Whoever lists whole shapes means that there is no axis of rows; whoever lists none lets a trial decide.
    let is_told = most > 0 || !config.input.is_empty() || !config.output.is_empty();
    let traits = Traits {
        max_rows: is_told.then_some(most),
        queue: queue(dynamic)?,
        config: config.clone(),
        ..Traits::default()
    };
    Ok((traits, batching))
}

fn queue(dynamic: &ModelDynamicBatching) -> Result<QueuePolicy, String> {
    let (levels, default_level) = (dynamic.priority_levels, dynamic.default_priority_level);
    let is_level = |level: u64| (1..=levels).contains(&level);
    if levels > 0 && !is_level(default_level) || levels == 0 && default_level > 0 {
        return Err(format!(
            "dynamic_batching.default_priority_level: {default_level} is none of the {levels} priority_levels"
        ));
    }
    if let Some(level) = dynamic.priority_queue_policy.keys().find(|level| !is_level(**level)) {
        return Err(format!(
            "dynamic_batching.priority_queue_policy: {level} is none of the {levels} priority_levels"
        ));
    }
    Ok(QueuePolicy {
        levels,
        default_level,
        default: dynamic.default_queue_policy.as_ref().map(level).unwrap_or_default(),
        by_level: dynamic.priority_queue_policy.iter().map(|(key, policy)| (*key, level(policy))).collect(),
    })
}

fn level(policy: &ModelQueuePolicy) -> Level {
    let timeout = Duration::from_micros(policy.default_timeout_microseconds);
    // What is delayed rather than rejected waits on until its caller's own deadline.
    let rejects = policy.timeout_action() == TimeoutAction::Reject;
    Level {
        timeout: (rejects && !timeout.is_zero()).then_some(timeout),
        most_waiting: (policy.max_queue_size > 0).then_some(policy.max_queue_size as usize),
    }
}

/// Fields that are set and not followed.
pub(super) fn ignored(config: &ModelConfig) -> Vec<&'static str> {
    let dynamic = match &config.scheduling_choice {
        Some(SchedulingChoice::DynamicBatching(dynamic)) => Some(dynamic),
        _ => None,
    };
    let input =
        |is_set: fn(&millgate_shared::proto::inference::ModelInput) -> bool| config.input.iter().any(is_set);
    [
        ("instance_group", !config.instance_group.is_empty()),
        ("optimization", config.optimization.is_some()),
        ("runtime", !config.runtime.is_empty()),
        ("cc_model_filenames", !config.cc_model_filenames.is_empty()),
        ("metric_tags", !config.metric_tags.is_empty()),
        ("input.format", input(|input| input.format != 0)),
        ("input.optional", input(|input| input.optional)),
        ("input.is_shape_tensor", input(|input| input.is_shape_tensor)),
        ("dynamic_batching.preserve_ordering", dynamic.is_some_and(|dynamic| dynamic.preserve_ordering)),
        (
            "dynamic_batching.preferred_batch_size without max_batch_size",
            config.max_batch_size == 0 && dynamic.is_some_and(|it| !it.preferred_batch_size.is_empty()),
        ),
    ]
    .into_iter()
    .filter_map(|(name, is_set)| is_set.then_some(name))
    .collect()
}

#[cfg(test)]
mod tests {
    use millgate_shared::proto::inference::model_version_policy::{All, Latest, Specific};

    use super::*;

    fn chosen(policy: Option<PolicyChoice>, found: &[u64]) -> Result<(Vec<u64>, Vec<u64>), String> {
        let policy = ModelVersionPolicy { policy_choice: policy };
        versions(Some(&policy), found).map(|chosen| (chosen.versions, chosen.absent))
    }

    #[test]
    fn a_policy_chooses_versions() {
        let (found, specific) = ([1, 3, 10], |versions: &[i64]| {
            Some(PolicyChoice::Specific(Specific { versions: versions.to_vec() }))
        });
        let latest = |num_versions| Some(PolicyChoice::Latest(Latest { num_versions }));
        assert_eq!(chosen(None, &found).unwrap(), (vec![10], vec![]));
        assert_eq!(chosen(latest(2), &found).unwrap(), (vec![3, 10], vec![]));
        assert_eq!(chosen(latest(9), &found).unwrap(), (vec![1, 3, 10], vec![]));
        assert_eq!(chosen(Some(PolicyChoice::All(All {})), &found).unwrap(), (vec![1, 3, 10], vec![]));
        assert_eq!(chosen(specific(&[10, 1, 7, 1]), &found).unwrap(), (vec![1, 10], vec![7]));
        for (policy, words) in [
            (latest(0), "num_versions"),
            (specific(&[0, 1]), "0 is no version"),
            (specific(&[-1]), "-1 is no version"),
            (specific(&[2]), "none is here"),
            (specific(&[]), "none is here"),
        ] {
            assert!(chosen(policy, &found).unwrap_err().contains(words), "{words}");
        }
    }

    fn of(text: &str) -> ModelConfig {
        super::super::config::parse(text).unwrap()
    }

    #[test]
    fn levels_and_queue_policies_are_followed() {
        let text = "max_batch_size: 8 dynamic_batching { preferred_batch_size: [4, 8] priority_levels: 3\n\
                    default_priority_level: 2 default_queue_policy { default_timeout_microseconds: 5000 }\n\
                    priority_queue_policy { key: 1 value { max_queue_size: 7 timeout_action: DELAY\n\
                    default_timeout_microseconds: 9 } } }";
        let (traits, batching) = traits(&of(text)).unwrap();
        assert_eq!((traits.max_rows, batching.preferred), (Some(8), vec![4, 8]));
        let queue = traits.queue;
        assert_eq!((queue.levels, queue.default_level), (3, 2));
        assert_eq!(queue.default.timeout, Some(Duration::from_millis(5)));
        assert_eq!(queue.by_level[&1], Level { timeout: None, most_waiting: Some(7) });
    }

    #[test]
    fn what_contradicts_itself_is_named() {
        for (text, words) in [
            ("max_batch_size: 4 dynamic_batching { preferred_batch_size: 8 }", "preferred_batch_size: 8"),
            ("dynamic_batching { preferred_batch_size: -1 }", "preferred_batch_size: -1"),
            ("dynamic_batching { priority_levels: 2 }", "default_priority_level: 0"),
            ("dynamic_batching { default_priority_level: 1 }", "default_priority_level: 1"),
            ("dynamic_batching { priority_queue_policy { key: 1 value {} } }", "priority_queue_policy: 1"),
        ] {
            let error = traits(&of(text)).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn what_is_not_followed_is_listed() {
        let text = "instance_group [{ count: 2 kind: KIND_CPU }] optimization { graph { level: 1 } }\n\
                    dynamic_batching { preferred_batch_size: 4 }";
        let names = ignored(&of(text));
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(names[0] == "instance_group" && names[1] == "optimization");
        assert!(ignored(&of("max_batch_size: 8 dynamic_batching {}")).is_empty());
    }
}
