//! What the operator wants of samples: `[recipe]`, and what a source says of its own in its table of `[[sources]]`; held against
//! a bundle, they become the policies that samples are decided by. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use millgate_shared::bundle::manifest::Manifest;
use millgate_shared::deciding::{Policy, PolicyError, are_false_alarms};
use millgate_shared::decision::UNKNOWN;
use millgate_shared::image::region::{self, Region};
use millgate_shared::part::Attributes;
use millgate_shared::recipe::{Costs, Disposition, Recipe};
use millgate_shared::scope::Scope;
use serde::Deserialize;

use crate::input::Input;
use crate::settings::{Refused, refuse};

#[cfg(test)]
mod tests;

/// `[recipe]`: what is made of verdicts. What it does not name goes by the bundle.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecipeConfig {
    /// accept, reject or review, by label.
    pub labels: BTreeMap<String, Disposition>,
    /// What mistakes cost.
    pub costs: Option<Costs>,
    /// Share of known samples that may be called unknown, at least 0 and below 1; 0: none is.
    pub false_alarms: Option<f64>,
}

/// What a source says of its samples, where it differs from what holds for all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourceWish {
    pub task: Option<String>,
    /// Products and labels that may be the answer; empty: all of the task's.
    pub labels: Vec<String>,
    pub risk: Option<f64>,
    pub false_alarms: Option<f64>,
    /// What is looked at in its pictures; none: all of each.
    pub regions: Vec<Region>,
    /// The side of the tiles that are looked at one by one, in pixels.
    pub tile: Option<u32>,
    /// The camera is stuck once the same picture has come so often in a row; 0: that is not looked at.
    pub stuck_after: u32,
}

/// All that the operator wants of samples.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wishes {
    pub recipe: RecipeConfig,
    /// Products and labels that may be the answer where a source names none; empty: all of the task's.
    pub labels: Vec<String>,
    /// By source, with the table of the configuration that says it: `sources[0]`.
    pub sources: BTreeMap<String, (String, SourceWish)>,
}

/// How the samples of one source are decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub task: String,
    pub policy: Policy,
    /// What is known of each picture that does not say otherwise.
    pub attributes: Attributes,
    /// As in [`SourceWish`].
    pub stuck_after: u32,
}

/// How samples are decided, by source.
#[derive(Debug, Clone)]
pub struct Policies {
    standard: Asked,
    sources: BTreeMap<String, Asked>,
}

impl RecipeConfig {
    /// Gives the first thing that is wrong, whatever the bundle is.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        if self.labels.contains_key(UNKNOWN) {
            return refuse("recipe.labels.unknown", "cannot be set: what is unknown is always for review");
        }
        if let Some(Costs { escape, false_reject, review }) = self.costs {
            let costs = [("escape", Some(escape)), ("false_reject", Some(false_reject)), ("review", review)];
            for (key, cost) in costs {
                if cost.is_some_and(|cost| !cost.is_finite() || cost < 0.0) {
                    return refuse(format!("recipe.costs.{key}"), "must be a number of at least 0");
                }
            }
        }
        check_false_alarms("recipe.false_alarms", self.false_alarms)
    }

    /// Holds it against a bundle. `None`: everything goes by the bundle.
    fn of_bundle(&self, manifest: &Manifest) -> Result<Option<Arc<Recipe>>, Refused> {
        self.check()?;
        for label in self.labels.keys() {
            if !manifest.tasks.iter().any(|task| task.labels.contains(label)) {
                let message = format!("is not a label of bundle {}", manifest.name);
                return Err(Refused { key: format!("recipe.labels.\"{label}\""), message });
            }
        }
        let recipe = Recipe { labels: self.labels.clone(), costs: self.costs };
        Ok((recipe != Recipe::default()).then(|| Arc::new(recipe)))
    }
}

impl SourceWish {
    /// Gives the first thing that is wrong, whatever the bundle is. Keys are the source's own.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        if self.task.as_deref() == Some("") {
            return refuse("task", "is empty");
        }
        if self.risk.is_some_and(|risk| !(risk > 0.0 && risk < 1.0)) {
            return refuse("risk", "must be above 0 and below 1");
        }
        if self.stuck_after == 1 {
            return refuse("stuck_after", "must be 2 or more, or 0: one picture is no repetition");
        }
        // Whether they lie inside is known when a picture comes.
        let largest = [u32::MAX; 2];
        if !self.regions.is_empty() {
            let planned = region::plan(&self.regions, None, largest);
            planned.map_err(|message| Refused { key: "regions".to_owned(), message })?;
        }
        let few = self.tile.filter(|side| *side < region::LEAST_SIDE);
        few.map_or(Ok(()), |_| refuse("tile", format!("must be at least {} pixels", region::LEAST_SIDE)))?;
        check_false_alarms("false_alarms", self.false_alarms)
    }
}

impl Wishes {
    /// Holds them against a bundle; `standard` is what holds without them, for samples of this task.
    pub(crate) fn policies(
        &self,
        task: &str,
        standard: Policy,
        manifest: &Manifest,
    ) -> Result<Policies, Refused> {
        let recipe = self.recipe.of_bundle(manifest)?;
        let scope = Scope::of(self.labels.iter().cloned());
        let policy = Policy { scope, false_alarms: self.recipe.false_alarms, recipe, ..standard };
        let (task, attributes) = (task.to_owned(), Attributes::new());
        let standard = Asked { task, policy, attributes, stuck_after: 0 };
        // Sources that name labels of their own need not care for these.
        standard.check(manifest)?;
        let mut sources = BTreeMap::new();
        for (name, (table, wish)) in &self.sources {
            let asked = wish.over(&standard);
            wish.check().and_then(|()| asked.check(manifest)).map_err(|refused| refused.below(table))?;
            sources.insert(name.clone(), asked);
        }
        Ok(Policies { standard, sources })
    }
}

impl SourceWish {
    /// What holds for its samples.
    fn over(&self, standard: &Asked) -> Asked {
        let policy = &standard.policy;
        let scope = match self.labels.is_empty() {
            true => policy.scope.clone(),
            false => Scope::of(self.labels.iter().cloned()),
        };
        let (risk, false_alarms) =
            (self.risk.unwrap_or(policy.risk), self.false_alarms.or(policy.false_alarms));
        Asked {
            task: self.task.clone().unwrap_or_else(|| standard.task.clone()),
            policy: Policy { scope, risk, false_alarms, ..policy.clone() },
            attributes: Input::default().looked_at(&self.regions, self.tile).attributes,
            stuck_after: self.stuck_after,
        }
    }
}

impl Asked {
    /// Refuses what the bundle does not have.
    fn check(&self, manifest: &Manifest) -> Result<(), Refused> {
        let Some(task) = manifest.task(&self.task) else {
            let known: Vec<&str> = manifest.tasks.iter().map(|task| &*task.name).collect();
            let (task, known) = (&self.task, known.join(", "));
            return refuse(
                "task",
                format!("`{task}` is not a task of bundle {} (it has {known})", manifest.name),
            );
        };
        let refused = |error: PolicyError| Refused { key: error.field.to_owned(), message: error.message };
        self.policy.check_scope(task).map_err(refused)
    }
}

impl Policies {
    /// How samples are decided that come from no source that says anything of them.
    pub(crate) fn standard(&self) -> &Asked {
        &self.standard
    }

    /// Sources that the configuration names.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &str> {
        self.sources.keys().map(|name| &**name)
    }

    /// How the samples of a source are decided.
    pub(crate) fn of(&self, source: Option<&str>) -> &Asked {
        source.and_then(|source| self.sources.get(source)).unwrap_or(&self.standard)
    }
}

fn check_false_alarms(key: &str, share: Option<f64>) -> Result<(), Refused> {
    if share.is_some_and(|share| !are_false_alarms(share)) {
        return refuse(key, "must be at least 0 and below 1");
    }
    Ok(())
}
