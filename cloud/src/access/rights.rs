//! What a caller may ask for. Pure: no clock, no files, no connection.

use std::fmt;
use std::sync::Arc;

use super::config::{DeviceBounds, TenantConfig};
use crate::principal::Standing;

/// A list of names that are allowed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Allow {
    #[default]
    All,
    /// Each name as it stands, or all that begin with what stands before a final `*`.
    Only(Vec<String>),
}

impl Allow {
    /// Absent: all.
    pub fn new(names: Option<&[String]>) -> Self {
        names.map_or(Self::All, |names| Self::Only(names.to_vec()))
    }

    pub fn has(&self, name: &str) -> bool {
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => pattern == name,
        };
        match self {
            Self::All => true,
            Self::Only(names) => names.iter().any(fits),
        }
    }
}

/// Several lists, all of which must allow a name: a tenant's, and a device's or a token's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Lists(Vec<Allow>);

impl Lists {
    fn have(&self, name: &str) -> bool {
        self.0.iter().all(|allow| allow.has(name))
    }
}

/// What one caller may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// Name of the caller in refusals: "device acme/cam-7".
    who: String,
    tasks: Lists,
    models: Lists,
    is_admin: bool,
    /// What it may have of the compute; `None`: that hangs on where the call comes from.
    standing: Option<Arc<Standing>>,
}

/// What is refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    who: String,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Task(String),
    Model(String),
    Admin,
}

/// What stands behind a name of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A task as a whole.
    Task,
    /// An expert of the bundle, with the tasks that it answers.
    Expert(&'a [String]),
    /// An encoder, the gate, a plain model.
    Other,
}

impl Rights {
    /// Everything.
    pub fn full(who: impl Into<String>) -> Self {
        Self {
            who: who.into(),
            tasks: Lists::default(),
            models: Lists::default(),
            is_admin: true,
            standing: None,
        }
    }

    /// Every task and model, but nothing that changes the pool.
    pub fn unbounded(who: impl Into<String>) -> Self {
        Self { is_admin: false, ..Self::full(who) }
    }

    pub fn within_tenant(mut self, tenant: &TenantConfig) -> Self {
        self.narrow(tenant.tasks.as_deref(), tenant.models.as_deref());
        self
    }

    pub fn within_device(mut self, device: &DeviceBounds) -> Self {
        self.narrow(device.tasks.as_deref(), device.models.as_deref());
        self
    }

    pub fn narrow(&mut self, tasks: Option<&[String]>, models: Option<&[String]>) {
        self.tasks.0.push(Allow::new(tasks));
        self.models.0.push(Allow::new(models));
    }

    pub fn with_admin(self, is_admin: bool) -> Self {
        Self { is_admin, ..self }
    }

    pub(crate) fn with_standing(self, standing: Standing) -> Self {
        Self { standing: Some(Arc::new(standing)), ..self }
    }

    pub(crate) fn standing(&self) -> Option<&Arc<Standing>> {
        self.standing.as_ref()
    }

    pub fn who(&self) -> &str {
        &self.who
    }

    pub fn may_ask(&self, task: &str) -> Result<(), Refusal> {
        self.grant(self.tasks.have(task), || What::Task(task.to_owned()))
    }

    /// An expert is within reach if its name is, and one of its tasks.
    pub fn may_run(&self, model: &str, kind: Kind<'_>) -> Result<(), Refusal> {
        match kind {
            Kind::Task => return self.may_ask(model),
            Kind::Expert(tasks) => {
                if let Some(task) = tasks.first()
                    && !tasks.iter().any(|task| self.tasks.have(task))
                {
                    return self.grant(false, || What::Task(task.clone()));
                }
            }
            Kind::Other => {}
        }
        self.grant(self.models.have(model), || What::Model(model.to_owned()))
    }

    /// Loading and unloading models, changing settings.
    pub fn may_change_the_pool(&self) -> Result<(), Refusal> {
        self.grant(self.is_admin, || What::Admin)
    }

    fn grant(&self, granted: bool, what: impl FnOnce() -> What) -> Result<(), Refusal> {
        if granted { Ok(()) } else { Err(Refusal { who: self.who.clone(), what: what() }) }
    }
}

impl Refusal {
    /// For metrics.
    pub fn reason(&self) -> &'static str {
        match self.what {
            What::Task(_) => "task",
            What::Model(_) => "model",
            What::Admin => "admin",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = &self.who;
        match &self.what {
            What::Task(task) => write!(f, "{who} may not ask for task `{task}`"),
            What::Model(model) => write!(f, "{who} may not run `{model}`"),
            What::Admin => {
                write!(f, "{who} may not change the pool: that takes an API token made with --admin")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Option<Vec<String>> {
        Some(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn a_list_allows_names_and_beginnings() {
        let allow = Allow::new(names(&["pcb-*", "steel-l"]).as_deref());
        for (name, has) in
            [("pcb-s", true), ("pcb-", true), ("steel-l", true), ("steel-s", false), ("", false)]
        {
            assert_eq!(allow.has(name), has, "{name}");
        }
        assert!(Allow::new(None).has("anything") && !Allow::new(Some(&[])).has("anything"));
    }

    #[test]
    fn an_expert_needs_its_name_and_one_of_its_tasks() {
        let inspect = ["inspect".to_owned()];
        let mut rights = Rights::unbounded("token `t`");
        rights.narrow(names(&["inspect"]).as_deref(), names(&["pcb-*"]).as_deref());
        assert_eq!(rights.may_run("pcb-s", Kind::Expert(&inspect)), Ok(()));
        assert_eq!(rights.may_run("inspect", Kind::Task), Ok(()));
        let refused = rights.may_run("steel-s", Kind::Expert(&inspect)).unwrap_err();
        assert_eq!(
            (refused.reason(), refused.to_string()),
            ("model", "token `t` may not run `steel-s`".to_owned())
        );
        let refused = rights.may_run("pcb-x", Kind::Expert(&["maintain".to_owned()])).unwrap_err();
        assert_eq!(refused.reason(), "task");
        assert!(refused.to_string().contains("`maintain`"));
        assert_eq!(rights.may_run("maintain", Kind::Task).unwrap_err().reason(), "task");
        assert_eq!(rights.may_run("gate", Kind::Other).unwrap_err().reason(), "model");
        assert!(rights.may_change_the_pool().unwrap_err().to_string().contains("--admin"));
        assert_eq!(Rights::full("x").may_change_the_pool(), Ok(()));
        // The narrower of two lists counts, whichever it is.
        rights.narrow(None, names(&["pcb-s", "steel-s"]).as_deref());
        assert_eq!(rights.may_run("pcb-s", Kind::Expert(&inspect)), Ok(()));
        assert!(rights.may_run("pcb-l", Kind::Expert(&inspect)).is_err());
        assert!(rights.may_run("steel-s", Kind::Expert(&inspect)).is_err());
    }
}
