//! Brings a repository's models into the serving room.
//!
//! All chosen versions of a model are made ready first, then they take the place of those before, all at once: whoever
//! asks meanwhile is answered by one or the other. A version whose file and configuration are what they were stays as it
//! is. If one of them cannot be served, none is taken over, and what was served before is served on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use millgate_shared::engine::OnnxFile;
use millgate_shared::proto::inference::{ModelConfig, ModelParameter};

use super::file::{bounded, digest, is_plain};
use super::followed;
use super::layout::{self, Place, Shape, Source};
use super::turns::Turns;
use super::warmup;
use super::{RepositoryError, config, labels, mlflow};
use crate::engines::LoadError;
use crate::failure::{Failure, without_places};
use crate::serving::Serving;
use crate::serving::catalogue::{Slot, Versions};
use crate::serving::run::Deployed;
use crate::strikes::{self, Record, Strikes};

#[cfg(test)]
mod tests;

/// A larger file is refused rather than read into memory.
const LARGEST_MODEL: u64 = 2 << 30;

/// Folders of models.
#[derive(Debug, Default)]
pub struct Repositories {
    roots: Vec<PathBuf>,
    turns: Turns,
    strikes: Strikes,
}

/// A model as its folder stands now.
struct Found {
    place: Place,
    config: ModelConfig,
    shape: Shape,
    chosen: followed::Chosen,
}

impl Repositories {
    pub(crate) fn new(roots: &[PathBuf]) -> Self {
        Self { roots: roots.to_vec(), turns: Turns::default(), strikes: Strikes::default() }
    }

    /// Repositories like those of `new`, which know what models have ended.
    pub(crate) fn knowing(roots: &[PathBuf], strikes: &Strikes) -> Self {
        Self { strikes: strikes.clone(), ..Self::new(roots) }
    }

    /// Serves every model; what cannot be served is in the index, with its reason. An error is a folder that cannot be
    /// listed.
    pub(crate) fn load_all(&self, serving: &Serving) -> Result<(), RepositoryError> {
        // Listed once: a folder of many models is long to look through.
        let mut found: BTreeMap<String, Vec<Place>> = BTreeMap::new();
        for root in &self.roots {
            for place in layout::places(root)? {
                found.entry(place.name.clone()).or_default().push(place);
            }
        }
        for (name, places) in found {
            let folders: Vec<PathBuf> = places.iter().map(|place| place.dir.clone()).collect();
            if let Some(reason) = self.strikes.aside(&name, &strikes::face(&folders)) {
                tracing::warn!(model = name, reason, "a model is not served");
                serving.unavailable(&name, Versions::new(), reason);
            } else if is_plain(&name) {
                // Its error is logged, and in the index.
                let _is_served = self.bring(serving, &name, places).is_ok();
            } else {
                let error = RepositoryError::Name(name.clone()).to_string();
                tracing::warn!(model = name, error, "a model is not served");
                serving.unavailable(&name, Versions::new(), error);
            }
        }
        Ok(())
    }

    /// Reads a model as it stands now, and serves that. If it cannot be, what is served of it stays.
    pub(crate) fn load(&self, serving: &Serving, name: &str) -> Result<(), Failure> {
        let mut places = Vec::new();
        if is_plain(name) {
            // A folder that cannot be listed has nothing to load.
            places.extend(self.roots.iter().filter_map(|root| layout::place(root, name).ok().flatten()));
        }
        self.strikes.forgive(name);
        self.bring(serving, name, places)
    }

    /// `places`: all folders of that name. The log names them; whoever asked is told without.
    fn bring(&self, serving: &Serving, name: &str, places: Vec<Place>) -> Result<(), Failure> {
        let folders: Vec<String> = places.iter().map(|place| place.dir.display().to_string()).collect();
        let brought = self.exchange(serving, name, places);
        if let Err(error) = &brought
            && !folders.is_empty()
        {
            tracing::warn!(model = name, folder = folders.join(", "), %error, "a model is not served");
        }
        brought
    }

    fn exchange(&self, serving: &Serving, name: &str, mut places: Vec<Place>) -> Result<(), Failure> {
        if serving.is_fixed(name) {
            return Err(Failure::Unsupported(format!("`{name}` belongs to the bundle and stays")));
        }
        let place = match (places.pop(), places.is_empty()) {
            (None, _) => return Err(Failure::UnknownModel(name.to_owned())),
            (Some(place), true) => Ok(place),
            (Some(_), false) => Err("it is in more than one repository".to_owned()),
        };
        let _turn = self.turns.take(name)?;
        let folders: Vec<PathBuf> = place.iter().map(|place| place.dir.clone()).collect();
        let face = strikes::face(&folders);
        let mut loading = self.strikes.enter(name, &face);
        let refuse = |versions: Versions, reason: String| {
            serving.unavailable(name, versions, reason.clone());
            Failure::Unservable { model: name.to_owned(), reason }
        };
        let place = place.map_err(|reason| refuse(Versions::new(), reason))?;
        let found = find(place).map_err(|error| refuse(Versions::new(), error.told()))?;
        for field in followed::ignored(&found.config) {
            tracing::warn!(model = name, field, "a field is set in config.pbtxt and not followed");
        }
        let mut versions = Versions::new();
        let mut failed = Vec::new();
        for version in found.chosen.versions.iter().copied() {
            let slot = match ready(serving, &found, version, self.strikes.record(name, &face)) {
                Ok(served) => Slot::Ready(served),
                Err(LoadError { reason, has_ended }) => {
                    if has_ended {
                        loading.ended(reason.clone());
                    }
                    failed.push(format!("version {version}: {reason}"));
                    Slot::Unavailable(reason)
                }
            };
            versions.insert(version, slot);
        }
        for version in found.chosen.absent.iter().copied() {
            let reason = "version_policy names it, and it is not there".to_owned();
            versions.insert(version, Slot::Unavailable(reason));
        }
        if failed.is_empty() {
            serving.replace(name, versions);
            return Ok(());
        }
        let alone = |slot| match slot {
            Slot::Ready(_) => Slot::Unavailable("another version cannot be served".to_owned()),
            slot => slot,
        };
        let versions = versions.into_iter().map(|(version, slot)| (version, alone(slot))).collect();
        Err(refuse(versions, failed.join("; ")))
    }

    pub(crate) fn unload(&self, serving: &Serving, name: &str) -> Result<(), Failure> {
        if !serving.is_known(name) {
            return Err(Failure::UnknownModel(name.to_owned()));
        }
        let _turn = self.turns.take(name)?;
        serving.unload(name)
    }
}

fn find(place: Place) -> Result<Found, RepositoryError> {
    let config = config::read(&place.root, &place.dir, &place.name)?.unwrap_or_default();
    let shape = layout::shape(&place, &config)?;
    let there = match &shape {
        Shape::Versions(versions) => versions,
        Shape::Itself => &vec![1],
    };
    let chosen = followed::versions(config.version_policy.as_ref(), there);
    let chosen = chosen.map_err(|message| in_config(&place, message))?;
    Ok(Found { chosen, place, config, shape })
}

fn in_config(place: &Place, message: String) -> RepositoryError {
    RepositoryError::Config { path: place.dir.join(config::FILE_NAME), message }
}

/// A version as it stands, loaded, or the one that is served if that is the same; or why not, as clients are told.
fn ready(serving: &Serving, found: &Found, version: u64, record: Record) -> Result<Arc<Deployed>, LoadError> {
    let Found { place, shape, config, .. } = found;
    let text = |error: RepositoryError| error.told();
    let Source { path, mlflow } = layout::source(place, shape, version, config).map_err(text)?;
    let folder = path.parent().map(PathBuf::from);
    let bytes = Bytes::from(bounded(&place.root, &path, LARGEST_MODEL).map_err(text)?);
    let mut config = config.clone();
    let origin: BTreeMap<&str, String> = mlflow.iter().flat_map(|mlflow| mlflow.origin.clone()).collect();
    for (name, string_value) in origin {
        config.parameters.entry(name.to_owned()).or_insert(ModelParameter { string_value });
    }
    let refused = |message: String| text(in_config(place, message));
    let (mut traits, batching) = followed::traits(&config).map_err(refused)?;
    let labels = labels::read(&place.root, &place.dir, &config.output).map_err(text)?;
    let file = OnnxFile::read(bytes, folder.clone())
        .map_err(|source| text(RepositoryError::Onnx { path: path.clone(), source }))?;
    traits.labels = labels::with_classes(labels, &file.signature.zipped);
    let external = file.external.iter().map(|external| external.bytes.as_ref());
    traits.digest = Some(digest(std::iter::once(file.bytes.as_ref()).chain(external)));
    config::check(&config, &file.signature).map_err(refused)?;
    if let (Some(mlflow), Some(folder)) = (&mlflow, &folder) {
        let path = folder.join(mlflow::FILE_NAME);
        let said = mlflow.check(&file.signature);
        said.map_err(|message| text(RepositoryError::Mlflow { path, message }))?;
    }
    let before = serving.versions(&place.name).into_iter().find(|served| served.version == version);
    if let Some(before) = before
        && before.traits == traits
        && before.set_aside().is_none()
    {
        return Ok(before);
    }
    let warmup = warmup::read(place, &config, &file.signature).map_err(refused)?;
    let given: Vec<_> = warmup.iter().map(|entry| Arc::clone(&entry.inputs)).collect();
    let served = serving.prepare(&place.name, version, &file, (traits, batching), &given, record);
    let name = path.file_name().unwrap_or_default().display();
    let served = served.map_err(|LoadError { reason, has_ended }| LoadError {
        reason: format!("{name}: {}", without_places(&reason)),
        has_ended,
    })?;
    warmup::run(&warmup, &served).map_err(refused)?;
    Ok(served)
}
