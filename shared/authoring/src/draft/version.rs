//! The version of a bundle, raised.

use toml_edit::{Item, value};

use super::{Draft, DraftError};

/// How far a version goes, as SemVer has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Labels went away, or answers changed their meaning.
    Major,
    /// There is more than before.
    Minor,
    /// Numbers changed.
    Patch,
}

impl Draft {
    /// Raises the version and gives the new one. What follows a `-` or `+` is left out.
    pub fn raise_version(&mut self, step: Step) -> Result<String, DraftError> {
        let old = self.manifest.get("version").and_then(Item::as_str).unwrap_or_default();
        let new = raised(old, step).ok_or_else(|| {
            DraftError::key(
                "version",
                format!("`{old}` is not three numbers, as `1.2.3`, and cannot be raised"),
            )
        })?;
        self.set("version", value(new.as_str()));
        Ok(new)
    }
}

fn raised(version: &str, step: Step) -> Option<String> {
    let core = version.split(['-', '+']).next()?;
    let numbers: Vec<u64> = core.split('.').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    let [major, minor, patch] = numbers[..] else { return None };
    let (major, minor, patch) = match step {
        Step::Major => (major.checked_add(1)?, 0, 0),
        Step::Minor => (major, minor.checked_add(1)?, 0),
        Step::Patch => (major, minor, patch.checked_add(1)?),
    };
    Some(format!("{major}.{minor}.{patch}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_puts_what_is_behind_it_to_nought() {
        let raised = |version, step| raised(version, step);
        assert_eq!(raised("1.2.3", Step::Major).as_deref(), Some("2.0.0"));
        assert_eq!(raised("1.2.3", Step::Minor).as_deref(), Some("1.3.0"));
        assert_eq!(raised("1.2.3-rc.1", Step::Patch).as_deref(), Some("1.2.4"));
        assert_eq!(raised("spring", Step::Patch), None);
        assert_eq!(raised("1.2", Step::Patch), None);
    }
}
