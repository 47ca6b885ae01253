//! Where ONNX Runtime is looked for, in this order:
//!
//! 1. what is named: the flag `--onnxruntime-library` or the variable `MILLGATE_ONNXRUNTIME`, else
//!    `engines.onnxruntime_library`; empty: nowhere;
//! 2. the variable `ORT_DYLIB_PATH`, which other programs go by too;
//! 3. what `engine install` has put into the state folder, the highest version first;
//! 4. the folders of the system's libraries, and those of `LD_LIBRARY_PATH`.
//!
//! What is named must be there and must load. What was only found is passed over with a warning if it does not.

use std::env;
use std::path::{Path, PathBuf};

use super::config::EnginesConfig;
use super::home::Library;
use super::installed::{self, Version};
use super::{EnginesError, missing};
use crate::guests::Guests;

/// The variable that names a library to other programs too.
const VARIABLE: &str = "ORT_DYLIB_PATH";
const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";
/// Where a system keeps libraries; those of the machine's kind are in a folder of its name.
const SYSTEM: [&str; 6] =
    ["/usr/local/lib", "/usr/local/lib64", "/opt/onnxruntime/lib", "/usr/lib", "/usr/lib64", "/lib"];

/// Who says that it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Configuration,
    Variable,
    Installed,
    System,
}

impl Source {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Variable => VARIABLE,
            Self::Installed => "engine install",
            Self::System => "system",
        }
    }

    /// Somebody has asked for this very one.
    fn is_named(self) -> bool {
        matches!(self, Self::Configuration | Self::Variable)
    }
}

/// A file that may be it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) source: Source,
    pub(crate) path: PathBuf,
}

/// What came of the search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    Here(Source),
    /// Nothing that could be loaded; these were tried, with why each was not taken.
    Nowhere {
        tried: Vec<(PathBuf, String)>,
        installed_in: PathBuf,
    },
    /// The configuration says that there shall be none.
    SwitchedOff,
}

impl Found {
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Here(source) => format!("found by {}", source.as_str()),
            Self::SwitchedOff => "`engines.onnxruntime_library` is empty".to_owned(),
            Self::Nowhere { tried, installed_in } if tried.is_empty() => format!(
                "none is configured, installed in {} or among the system's libraries",
                installed_in.display()
            ),
            Self::Nowhere { tried, .. } => {
                let failed: Vec<String> = tried.iter().map(|(_, reason)| reason.clone()).collect();
                format!("what was found cannot be loaded: {}", failed.join("; "))
            }
        }
    }
}

/// The first that can be loaded. An error if one that is named cannot.
pub(super) fn find(
    config: &EnginesConfig,
    state_dir: &Path,
    guests: &Guests,
) -> Result<(Found, Option<Library>), EnginesError> {
    if config.onnxruntime_library.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
        return Ok((Found::SwitchedOff, None));
    }
    let mut tried = Vec::new();
    for Candidate { source, path } in candidates(config.onnxruntime_library.as_deref(), state_dir) {
        match Library::open(&path, guests) {
            Ok(opened) => return Ok((Found::Here(source), Some(opened))),
            Err(error) if source.is_named() => {
                let key = match source {
                    Source::Variable => VARIABLE,
                    _ => "engines.onnxruntime_library",
                };
                return Err(EnginesError { key, message: error });
            }
            Err(reason) => {
                tracing::warn!(found_by = source.as_str(), reason, "this ONNX Runtime is passed over");
                tried.push((path, reason));
            }
        }
    }
    let found = Found::Nowhere { tried, installed_in: installed::folder(state_dir) };
    let why = found.text();
    tracing::info!(why, remedy = missing::INSTALL, "ONNX Runtime is not here; tract runs every model");
    Ok((found, None))
}

/// In the order of the module's head.
pub(crate) fn candidates(configured: Option<&Path>, state_dir: &Path) -> Vec<Candidate> {
    let named = match (configured, env::var_os(VARIABLE)) {
        (Some(path), _) => Some((Source::Configuration, path.to_path_buf())),
        (None, Some(path)) if !path.is_empty() => Some((Source::Variable, PathBuf::from(path))),
        _ => None,
    };
    if let Some((source, path)) = named {
        return vec![Candidate { source, path }];
    }
    let installed = installed::list(state_dir).into_iter().map(|installed| installed.library);
    let installed = installed.map(|path| Candidate { source: Source::Installed, path });
    let of_system = system_folders().into_iter().filter_map(|folder| newest(&folder));
    let of_system = of_system.map(|path| Candidate { source: Source::System, path });
    installed.chain(of_system).collect()
}

fn system_folders() -> Vec<PathBuf> {
    let asked = env::var_os(LIBRARY_PATH).unwrap_or_default();
    let asked = env::split_paths(&asked).filter(|path| path.is_absolute());
    let kind = format!("/usr/lib/{}-linux-gnu", env::consts::ARCH);
    let mut folders: Vec<PathBuf> = Vec::new();
    for folder in asked.chain(SYSTEM.map(PathBuf::from)).chain([PathBuf::from(kind)]) {
        // Several names often lead to one folder.
        if let Ok(folder) = folder.canonicalize()
            && !folders.contains(&folder)
        {
            folders.push(folder);
        }
    }
    folders
}

/// The highest version in a folder of libraries; without links, so that its name has the whole version.
fn newest(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let names = entries.filter(|entry| installed::is_library(&entry.file_name().to_string_lossy()));
    let files = names.filter_map(|entry| entry.path().canonicalize().ok()).filter(|path| path.is_file());
    files.max_by_key(|path| Version::of_library(path))
}

/// What the log says once when a pool starts, in its own words.
pub(crate) fn log(found: &Found, missing: &missing::Missing) {
    let Found::Nowhere { .. } = found else { return };
    let list = |names: &std::collections::BTreeSet<String>| {
        names.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
    };
    let (why, remedy) = (found.text(), missing::INSTALL);
    let (cannot_be_served, may_gain) = (list(&missing.cannot_be_served), list(&missing.may_gain));
    if missing.cannot_be_served.is_empty() {
        tracing::info!(may_gain, remedy, "tract runs every model; with ONNX Runtime some may be faster");
    } else {
        tracing::warn!(
            why,
            cannot_be_served,
            may_gain,
            remedy,
            "ONNX Runtime is not here, and some models cannot be served without it"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_the_only_one_and_what_is_installed_comes_before_the_systems() {
        let state = tempfile::tempdir().unwrap();
        let named = candidates(Some(Path::new("/x/libonnxruntime.so")), state.path());
        let [Candidate { source: Source::Configuration, path }] = &*named else { panic!("{named:?}") };
        assert_eq!(path, Path::new("/x/libonnxruntime.so"));
        for version in ["1.24.0", "1.32.0", "1.9.0"] {
            let folder = installed::folder(state.path()).join(format!("onnxruntime-{version}"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(format!("libonnxruntime.so.{version}")), "").unwrap();
        }
        if env::var_os(VARIABLE).is_none() {
            let found = candidates(None, state.path());
            let names = found.iter().take_while(|found| found.source == Source::Installed);
            let names: Vec<_> = names.map(|found| found.path.file_name().unwrap().to_owned()).collect();
            assert_eq!(
                names,
                ["libonnxruntime.so.1.32.0", "libonnxruntime.so.1.24.0", "libonnxruntime.so.1.9.0"]
            );
        }
    }

    #[test]
    fn of_a_folder_of_libraries_the_highest_version_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(newest(folder.path()), None);
        for name in
            ["libonnxruntime.so.1.9.1", "libonnxruntime.so.1.30.0", "libonnxruntime_providers_shared.so"]
        {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::os::unix::fs::symlink("libonnxruntime.so.1.9.1", folder.path().join("libonnxruntime.so"))
            .unwrap();
        let found = newest(folder.path()).unwrap();
        assert_eq!(found.file_name().unwrap(), "libonnxruntime.so.1.30.0");
    }
}
