//! What graphs make of pictures: each picture is read once, turned, and given to every graph, by as many threads as there are
//! processors. What comes out is in the pictures' order, whichever thread was first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use millgate_array::Array;
use millgate_base::bounded;
use millgate_engine::Tract;
use millgate_engine::fixed::{FixedModel, FixedPort, FixedSession};
use millgate_sample::index::{By, ModalityIx};
use millgate_sample::modality::{MODALITIES, Prepare, Spec, Table};
use millgate_sample::part::{Limits, Part};
use millgate_sample::sample::{self, Sample};

use super::MakeError;
use super::backbone::Backbone;
use crate::data::Item;
use crate::progress::Progress;

/// The modality of pictures that are decided on, and that of what they are compared with.
pub(super) const IMAGE: &str = "image";
pub(super) const TEMPLATE: &str = "template";

/// How a picture is turned before a graph is given it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flip {
    None,
    Sideways,
    Upside,
    Both,
}

impl Flip {
    pub(super) const ALL: [Self; 4] = [Self::None, Self::Sideways, Self::Upside, Self::Both];

    /// A prepared picture, `[1, channels, height, width]`, turned.
    fn apply(self, picture: &Array) -> Array {
        let [_, _, height, width] = picture.shape() else { return picture.clone() };
        let (height, width) = (*height, *width);
        let Ok(values) = picture.as_fp32() else { return picture.clone() };
        if self == Self::None || height * width == 0 {
            return picture.clone();
        }
        let (sideways, upside) = (self != Self::Upside, self != Self::Sideways);
        let mut turned = Vec::with_capacity(values.len());
        for plane in values.chunks_exact(height * width) {
            for row in 0..height {
                let row = if upside { height - 1 - row } else { row };
                let row = &plane[row * width..(row + 1) * width];
                if sideways {
                    turned.extend(row.iter().rev());
                } else {
                    turned.extend_from_slice(row);
                }
            }
        }
        Array::new(picture.shape().to_vec(), turned.into()).unwrap_or_else(|_| picture.clone())
    }
}

/// A graph that makes numbers of a picture, and of its template where it takes one.
#[derive(Debug, Clone)]
pub(super) struct Extractor {
    /// The file.
    pub(super) graph: Vec<u8>,
    pub(super) size: usize,
    /// Modalities that it takes, by the names of its inputs.
    pub(super) inputs: Vec<&'static str>,
    /// The output that is wanted.
    pub(super) output: &'static str,
}

/// Reads pictures as the bundle will.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    pub(super) modalities: By<ModalityIx, Spec>,
}

impl Reader {
    pub(super) fn new(channels: usize, has_template: bool) -> Result<Self, MakeError> {
        let spec = |name: &str, reference: Option<&str>| -> Result<Spec, MakeError> {
            let unit = "grey level 0-255";
            let written = serde_json::json!({
                "name": name, "kind": "image", "unit": unit, "channels": channels, "reference": reference,
            });
            let spec = serde_json::from_value(written);
            let mut spec: Spec = spec.map_err(|error| MakeError::Other(error.to_string()))?;
            spec.resolve(MODALITIES).map_err(|refused| MakeError::Other(refused.message))?;
            Ok(spec)
        };
        let mut modalities = By::default();
        modalities.push(spec(IMAGE, has_template.then_some(TEMPLATE))?);
        if has_template {
            modalities.push(spec(TEMPLATE, None)?);
        }
        Ok(Self { modalities })
    }

    /// Reads a sample's files.
    pub(super) fn read(&self, item: &Item) -> Result<Sample, MakeError> {
        let limits = Limits::default();
        let mut parts = Vec::with_capacity(item.parts.len());
        for (modality, path) in &item.parts {
            if self.modalities.find_ix(|spec| spec.name == *modality).is_none() {
                continue;
            }
            let bytes = bounded::read(path, limits.max_bytes)
                .map_err(|source| MakeError::Io { path: path.clone(), source })?;
            parts.push(Part::file(modality, bytes));
        }
        let read = sample::read(&self.modalities, &parts, &limits).map_err(|error| {
            let path = item.parts.get(&error.modality).map_or_else(|| item.name.clone().into(), Clone::clone);
            MakeError::Picture { path, message: error.to_string() }
        })?;
        Ok(read.sample)
    }

    /// What makes the input of a graph.
    pub(super) fn prepare(
        &self,
        modality: &str,
        size: usize,
        backbone: &Backbone,
    ) -> Result<Arc<dyn Prepare>, MakeError> {
        let refuse = |message: String| MakeError::Other(message);
        let at = self.modalities.find_ix(|spec| spec.name == modality);
        let spec = at.map(|at| &self.modalities[at]);
        let spec = spec.ok_or_else(|| refuse(format!("there is no modality `{modality}`")))?;
        let table = preprocess(backbone);
        let input = spec.modality().input(spec, &[backbone.channels, size, size], &table);
        input.map_err(|refused| refuse(format!("{}: {}", refused.key, refused.message)))
    }
}

/// `preprocess` of an input, as a manifest has it.
fn preprocess(backbone: &Backbone) -> Table {
    let mut table = Table::new();
    for (key, numbers) in [("mean", &backbone.mean), ("std", &backbone.std)] {
        let numbers: Vec<f64> = numbers.iter().map(|number| f64::from(*number)).collect();
        let value = if let [one] = numbers[..] { one.into() } else { numbers.into() };
        table.insert(key.to_owned(), value);
    }
    table
}

/// The modalities that a graph takes.
pub(super) fn inputs(with_template: bool) -> Vec<&'static str> {
    if with_template { vec![IMAGE, TEMPLATE] } else { vec![IMAGE] }
}

/// One graph in one thread.
struct Loaded {
    session: FixedSession,
    inputs: Vec<(ModalityIx, Arc<dyn Prepare>)>,
    output: usize,
}

/// Gives what each graph makes of each picture, by picture, graph and flip.
pub(super) fn extract(
    reader: &Reader,
    backbone: &Backbone,
    items: &[&Item],
    extractors: &[Extractor],
    flips: &[Flip],
    progress: &dyn Progress,
) -> Result<Vec<Vec<Vec<Vec<f32>>>>, MakeError> {
    let models = extractors.iter().map(|extractor| load(extractor, backbone));
    let models = models.collect::<Result<Vec<_>, MakeError>>()?;
    let sessions = || -> Result<Vec<Loaded>, MakeError> {
        let loaded = extractors.iter().zip(&models).map(|(extractor, model)| {
            let session = model.session().map_err(|error| MakeError::Other(error.to_string()))?;
            let input = |modality: &&'static str| {
                let at = reader.modalities.find_ix(|spec| spec.name == *modality);
                let at = at.ok_or_else(|| MakeError::Other(format!("there is no modality `{modality}`")))?;
                Ok::<_, MakeError>((at, reader.prepare(modality, extractor.size, backbone)?))
            };
            let inputs = extractor.inputs.iter().map(input).collect::<Result<_, _>>()?;
            let output = model.output_index(extractor.output);
            let output =
                output.ok_or_else(|| MakeError::Other(format!("no output `{}`", extractor.output)))?;
            Ok(Loaded { session, inputs, output })
        });
        loaded.collect()
    };
    in_threads(items.len(), sessions, progress, |loaded, at| {
        let sample = reader.read(items[at])?;
        loaded.iter_mut().map(|loaded| run(loaded, items[at], &sample, flips)).collect()
    })
}

fn load(extractor: &Extractor, backbone: &Backbone) -> Result<Arc<FixedModel>, MakeError> {
    let shape = vec![1, backbone.channels, extractor.size, extractor.size];
    let ports =
        extractor.inputs.iter().map(|name| FixedPort { name: (*name).to_owned(), shape: shape.clone() });
    let model = FixedModel::load(&Tract, &extractor.graph, &ports.collect::<Vec<_>>());
    model.map(Arc::new).map_err(|error| MakeError::Other(format!("backbone {}: {error}", backbone.name)))
}

/// What one graph makes of one sample, by flip.
fn run(
    loaded: &mut Loaded,
    item: &Item,
    sample: &Sample,
    flips: &[Flip],
) -> Result<Vec<Vec<f32>>, MakeError> {
    let path = || item.parts.get(IMAGE).cloned().unwrap_or_else(|| item.name.clone().into());
    let refuse = |message: String| MakeError::Picture { path: path(), message };
    let mut inputs = Vec::with_capacity(loaded.inputs.len());
    for (modality, prepare) in &loaded.inputs {
        let value = sample.value(*modality).ok_or_else(|| refuse("has no template beside it".to_owned()))?;
        inputs.push(prepare.prepare(value).map_err(|error| refuse(error.to_string()))?);
    }
    let turned = flips.iter().map(|flip| {
        let inputs = inputs.iter().map(|input| flip.apply(input)).collect();
        let mut outputs = loaded.session.run(inputs).map_err(|error| refuse(error.to_string()))?;
        let output = outputs.swap_remove(loaded.output);
        if !output.is_finite() {
            return Err(refuse("gives features that are not finite".to_owned()));
        }
        output.as_fp32().map(<[f32]>::to_vec).map_err(|error| refuse(error.to_string()))
    });
    turned.collect()
}

/// Does so many pieces of work in as many threads as there are processors, each with a state of its own; what comes out is
/// in the pieces' order, and so is the error that is told.
pub(super) fn in_threads<S, T: Send>(
    count: usize,
    state: impl Fn() -> Result<S, MakeError> + Sync,
    progress: &dyn Progress,
    work: impl Fn(&mut S, usize) -> Result<T, MakeError> + Sync,
) -> Result<Vec<T>, MakeError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).clamp(1, 16).min(count.max(1));
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let one = || -> Vec<(usize, Result<T, MakeError>)> {
        let mut done = Vec::new();
        let mut state = match state() {
            Ok(state) => state,
            Err(error) => {
                failed.store(true, Ordering::Relaxed);
                return vec![(0, Err(error))];
            }
        };
        while !failed.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                break;
            }
            let result = work(&mut state, at);
            if result.is_err() {
                failed.store(true, Ordering::Relaxed);
            }
            done.push((at, result));
            progress.advance(1);
        }
        done
    };
    let mut done: Vec<(usize, Result<T, MakeError>)> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        let joined = handles.into_iter().map(|handle| {
            let lost =
                |_| vec![(0, Err(MakeError::Other("a thread that ran models ended by itself".to_owned())))];
            handle.join().unwrap_or_else(lost)
        });
        joined.flatten().collect()
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}
