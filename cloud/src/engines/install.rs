//! Brings a library into the state folder: all of it, proved to load and to compute on this machine, or nothing.

use std::io;
use std::path::{Path, PathBuf};

use millgate_shared::files;

use super::home::Library;
use super::installed::{self, Installed, ORIGIN, Origin, Version, folder, folder_of};
use super::onnxruntime::OnnxRuntime;
use super::package::{self, PackageError, Taken};
use crate::guests::Guests;
use crate::identity::{StateDir, StateError};

/// Why nothing was installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error(transparent)]
    Package(PackageError),
    #[error("{}: is ONNX Runtime {version}, at least {least} is needed", path.display())]
    Old { path: PathBuf, version: Version, least: Version },
    #[error("{}: cannot be used on this machine: {reason}", path.display())]
    Unusable { path: PathBuf, reason: String },
    #[error(transparent)]
    State(#[from] StateError),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl InstallError {
    /// What was given is at fault, not the state folder.
    pub(crate) fn is_bad_input(&self) -> bool {
        match self {
            Self::Package(_) | Self::Old { .. } | Self::Unusable { .. } => true,
            Self::State(error) => error.is_bad_input(),
            Self::Io { .. } => false,
        }
    }
}

/// Installs what is given, in the place of the same version if that is there. Loads the library into a worker, or into this
/// process where there are none.
pub(crate) fn install(given: &Path, state_dir: &Path, guests: &Guests) -> Result<Installed, InstallError> {
    put(given, state_dir, |library| Library::open(library, guests).map(|_| ()))
}

/// `prove` is asked whether a library works.
fn put(
    given: &Path,
    state_dir: &Path,
    prove: impl FnOnce(&Path) -> Result<(), String>,
) -> Result<Installed, InstallError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| InstallError::Io { path, source }
    };
    // Nothing is made for what is not there.
    std::fs::metadata(given).map_err(failed(given))?;
    let _locked = StateDir::new(state_dir).lock()?;
    let all = folder(state_dir);
    files::make_private_folder(&all).map_err(failed(&all))?;
    let staged = Staged::make(&all).map_err(failed(&all))?;
    let taken = package::take(given, &staged.0).map_err(InstallError::Package)?;
    let Taken { version, library, library_sha256, source, source_sha256 } = taken;
    if version < OnnxRuntime::LEAST {
        return Err(InstallError::Old { path: source, version, least: OnnxRuntime::LEAST });
    }
    prove(&staged.0.join(&library))
        .map_err(|reason| InstallError::Unusable { path: source.clone(), reason })?;
    let source = source
        .file_name()
        .map_or_else(|| source.display().to_string(), |name| name.to_string_lossy().into_owned());
    let origin = Origin { source, source_sha256, library_sha256 };
    let text = serde_json::to_vec_pretty(&origin).unwrap_or_default();
    files::replace(&staged.0.join(ORIGIN), &text, files::PUBLIC).map_err(failed(&staged.0))?;
    let place = folder_of(state_dir, version);
    installed::remove(state_dir, version).map_err(failed(&place))?;
    std::fs::rename(&staged.0, &place).map_err(failed(&place))?;
    std::fs::File::open(&all).and_then(|folder| folder.sync_all()).map_err(failed(&all))?;
    Ok(Installed { version, library: place.join(library), origin: Some(origin) })
}

/// A folder in the making, which goes with what is in it unless it gets another name.
struct Staged(PathBuf);

impl Staged {
    fn make(all: &Path) -> io::Result<Self> {
        // The lock is held: whatever is left there is nobody's.
        let path = all.join(".new");
        if path.exists() {
            std::fs::remove_dir_all(&path)?;
        }
        files::make_private_folder(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _moved_or_gone = std::fs::remove_dir_all(&self.0).is_ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "libonnxruntime.so.1.32.0";

    /// The head of a library for this machine; nothing can load it.
    fn library(version: &str) -> Vec<u8> {
        package::elf_head(version)
    }

    fn given(name: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), library("VERS_1.32.0")).unwrap();
        folder
    }

    #[test]
    fn what_works_is_there_afterwards_and_takes_the_place_of_its_own_version() {
        let (state, given) = (tempfile::tempdir().unwrap(), given(NAME));
        let is_named = |library: &Path| {
            assert!(library.ends_with(NAME));
            Ok(())
        };
        let put = || put(given.path(), state.path(), is_named).unwrap();
        let installed = put();
        assert_eq!(installed.version.to_string(), "1.32.0");
        assert_eq!(installed::list(state.path()), std::slice::from_ref(&installed));
        std::fs::write(given.path().join("libonnxruntime_providers_cuda.so"), "cuda").unwrap();
        assert_eq!(put(), installed);
        let beside = installed.library.with_file_name("libonnxruntime_providers_cuda.so");
        assert_eq!(std::fs::read_to_string(beside).unwrap(), "cuda");
        assert!(!folder(state.path()).join(".new").exists());
    }

    #[test]
    fn what_does_not_work_or_is_too_old_leaves_what_was_there() {
        let (state, good) = (tempfile::tempdir().unwrap(), given(NAME));
        let before = put(good.path(), state.path(), |_| Ok(())).unwrap();
        let error = put(good.path(), state.path(), |_| Err("no GLIBC_2.99".to_owned())).unwrap_err();
        assert!(error.is_bad_input() && error.to_string().contains("this machine: no GLIBC_2.99"), "{error}");
        let error = put(given("libonnxruntime.so.1.20.1").path(), state.path(), |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("1.20.1, at least 1.24.0"), "{error}");
        let error = put(Path::new("/nowhere.whl"), state.path(), |_| Ok(())).unwrap_err();
        assert!(error.to_string().starts_with("/nowhere.whl: "), "{error}");
        assert_eq!(installed::list(state.path()), [before]);
        assert!(!folder(state.path()).join(".new").exists());
    }

    #[test]
    fn a_library_without_a_version_in_its_name_has_one_inside() {
        let (state, given) = (tempfile::tempdir().unwrap(), given("libonnxruntime.so"));
        let installed = put(given.path(), state.path(), |_| Ok(())).unwrap();
        assert_eq!(installed.version.to_string(), "1.32.0");
    }
}
