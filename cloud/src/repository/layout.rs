//! Where models and their versions lie.

use std::fs::DirEntry;
use std::path::{Component, Path, PathBuf};

use millgate_shared::proto::inference::ModelConfig;

use super::file::{entries, is_plain, stands};
use super::mlflow::{self, Mlflow};
use super::{RepositoryError, config};

/// A model's file, unless something else is named.
const MODEL: &str = "model.onnx";
/// A folder that holds one of these is a model's.
const MARKS: [&str; 3] = [mlflow::FILE_NAME, config::FILE_NAME, MODEL];

/// A model's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Nothing outside of it is read.
    pub(super) root: PathBuf,
    pub(super) dir: PathBuf,
    pub(super) name: String,
}

/// How a model's folder is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// A folder a version, lowest first.
    Versions(Vec<u64>),
    /// The folder itself is version 1.
    Itself,
}

/// A version's file, and what lies beside it.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) mlflow: Option<Mlflow>,
}

/// The models of a repository. Names that cannot be served are among them.
pub(super) fn places(root: &Path) -> Result<Vec<Place>, RepositoryError> {
    if let Some(model) = itself(root)? {
        return Ok(vec![model]);
    }
    let place = |name: String| Place { root: root.to_path_buf(), dir: root.join(&name), name };
    Ok(entries(root)?.iter().filter_map(folder).map(place).collect())
}

/// The model of that name, which must be a plain one.
pub(super) fn place(root: &Path, name: &str) -> Result<Option<Place>, RepositoryError> {
    if let Some(model) = itself(root)? {
        return Ok((model.name == name).then_some(model));
    }
    let dir = root.join(name);
    // A link that leads nowhere has an error of its own.
    let is_there = dir.is_dir() || dir.is_symlink() && !dir.exists();
    Ok(is_there.then(|| Place { root: root.to_path_buf(), dir, name: name.to_owned() }))
}

/// The name of what may be a model's folder, or a link to one, be it that it leads nowhere.
fn folder(entry: &DirEntry) -> Option<String> {
    let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
    let is_folder = path.is_dir() || path.is_symlink() && !path.exists();
    (is_folder && !name.starts_with('.')).then_some(name)
}

/// The model, where the folder given is that of one.
fn itself(root: &Path) -> Result<Option<Place>, RepositoryError> {
    let mut is_model = MARKS.iter().any(|file| stands(&root.join(file)));
    if !is_model {
        let refuse = |source| RepositoryError::Io { path: root.to_path_buf(), source };
        // Mostly the first folder tells, however many there are.
        for entry in std::fs::read_dir(root).map_err(refuse)? {
            let entry = entry.map_err(refuse)?;
            let Some(name) = folder(&entry) else { continue };
            let holds_one = || [MODEL, mlflow::FILE_NAME].iter().any(|file| stands(&entry.path().join(file)));
            is_model = version(&name).is_some() && holds_one();
            if !is_model {
                break;
            }
        }
    }
    if !is_model {
        return Ok(None);
    }
    let real = root.canonicalize();
    let real = real.map_err(|source| RepositoryError::Io { path: root.to_path_buf(), source })?;
    let name = real.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Some(Place { root: root.to_path_buf(), dir: root.to_path_buf(), name }))
}

/// A version number from 1, written as numbers are: `07` is none.
fn version(name: &str) -> Option<u64> {
    name.parse().ok().filter(|version: &u64| *version > 0 && version.to_string() == name)
}

pub(super) fn shape(place: &Place, config: &ModelConfig) -> Result<Shape, RepositoryError> {
    let mut versions: Vec<u64> =
        entries(&place.dir)?.iter().filter_map(folder).filter_map(|name| version(&name)).collect();
    versions.sort_unstable();
    let has_mlmodel = stands(&place.dir.join(mlflow::FILE_NAME));
    match (versions.is_empty(), has_mlmodel) {
        (false, false) => Ok(Shape::Versions(versions)),
        (true, true) => Ok(Shape::Itself),
        (false, true) => {
            let message = format!("holds both an MLmodel and folders of versions {versions:?}");
            Err(RepositoryError::Layout { path: place.dir.clone(), message })
        }
        (true, false) if stands(&place.dir.join(file_name(place, config)?)) => Ok(Shape::Itself),
        (true, false) => Err(RepositoryError::NoVersion(place.dir.clone())),
    }
}

fn file_name<'a>(place: &Place, config: &'a ModelConfig) -> Result<&'a str, RepositoryError> {
    match config.default_model_filename.as_str() {
        "" => Ok(MODEL),
        name if is_plain(name) => Ok(name),
        name => {
            let message = format!("default_model_filename: `{name}` is not a name");
            Err(RepositoryError::Config { path: place.dir.join(config::FILE_NAME), message })
        }
    }
}

/// The file of a version; what the folder says of it is read.
pub(super) fn source(
    place: &Place,
    shape: &Shape,
    version: u64,
    config: &ModelConfig,
) -> Result<Source, RepositoryError> {
    let folder = match shape {
        Shape::Versions(_) => place.dir.join(version.to_string()),
        Shape::Itself => place.dir.clone(),
    };
    let mlflow = mlflow::read(&place.root, &folder)?;
    let path = match &mlflow {
        None => folder.join(file_name(place, config)?),
        Some(mlflow) => {
            let at = folder.join(mlflow::FILE_NAME);
            let named = &config.default_model_filename;
            if !named.is_empty() && *named != mlflow.data {
                let message = format!("flavors.onnx.data: is `{}`, config.pbtxt says `{named}`", mlflow.data);
                return Err(RepositoryError::Mlflow { path: at, message });
            }
            let data = Path::new(&mlflow.data);
            if data.components().any(|part| !matches!(part, Component::Normal(_))) {
                let message = format!("flavors.onnx.data: `{}` is no path within its folder", mlflow.data);
                return Err(RepositoryError::Mlflow { path: at, message });
            }
            folder.join(data)
        }
    };
    Ok(Source { path: if path.is_dir() { within(&path)? } else { path }, mlflow })
}

/// A model with weights in files of their own is kept in a folder.
fn within(folder: &Path) -> Result<PathBuf, RepositoryError> {
    let usual = folder.join(MODEL);
    if stands(&usual) {
        return Ok(usual);
    }
    let files = entries(folder)?.into_iter().map(|entry| entry.path());
    let mut onnx: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|ending| ending == "onnx")).collect();
    match (onnx.pop(), onnx.len()) {
        (Some(only), 0) => Ok(only),
        (found, _) => {
            let message =
                format!("holds {} .onnx files, and no {MODEL}", onnx.len() + usize::from(found.is_some()));
            Err(RepositoryError::Layout { path: folder.to_path_buf(), message })
        }
    }
}
