//! The memory of a server: its process and all that it started, as Linux tells.

use std::collections::BTreeMap;

use crate::LoadError;

/// Resident memory of a process and its descendants, in MiB.
pub fn resident_mib(process: u32) -> Result<f64, LoadError> {
    let io = |source| LoadError::Io { what: "/proc".to_owned(), source };
    let mut parents = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").map_err(io)? {
        let number = entry.map_err(io)?.file_name().to_string_lossy().parse::<u32>();
        if let Ok(number) = number
            && let Some(parent) = status(number, "PPid:")
        {
            parents.insert(number, parent as u32);
        }
    }
    if !parents.contains_key(&process) {
        return Err(LoadError::Flag { flag: "--pid", message: format!("there is no process {process}") });
    }
    let family = parents.keys().filter(|number| descends(&parents, **number, process));
    Ok(family.filter_map(|number| status(*number, "VmRSS:")).sum::<u64>() as f64 / 1024.0)
}

fn descends(parents: &BTreeMap<u32, u32>, number: u32, from: u32) -> bool {
    let mut at = Some(number);
    // A chain cannot be longer than there are processes, however it changed while being read.
    for _ in 0..=parents.len() {
        match at {
            Some(number) if number == from => return true,
            Some(number) => at = parents.get(&number).copied(),
            None => return false,
        }
    }
    false
}

/// A number of a process's status; `None` if the process is gone or has none.
fn status(process: u32, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_weighs_what_it_and_its_descendants_weigh() {
        let own = resident_mib(std::process::id()).unwrap();
        assert!((0.5..100_000.0).contains(&own), "{own}");
        assert!(resident_mib(u32::MAX).is_err());
        let parents = BTreeMap::from([(1, 0), (2, 1), (3, 2), (4, 1)]);
        assert!(descends(&parents, 3, 1) && descends(&parents, 3, 3) && !descends(&parents, 4, 2));
    }
}
