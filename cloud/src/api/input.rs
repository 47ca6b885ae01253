//! What a call brings for its experts: pictures, decoded once for all of them, or tensors as the experts take them.

use std::sync::OnceLock;

use millgate_shared::bundle::manifest::Manifest;
use millgate_shared::image::Limits;
use millgate_shared::proto::v1;
use millgate_shared::runner::{RunError, Runner};
use millgate_shared::sample::Sample;
use millgate_shared::tensor::Tensor;
use millgate_shared::wire::{WireError, read_images, read_tensor};

use crate::failure::Failure;

/// Shared by the jobs of one call.
#[derive(Debug)]
pub(super) enum Input {
    Images {
        images: Vec<v1::Image>,
        /// Filled by the first job that needs it, on its thread; the others wait for it there.
        sample: OnceLock<Result<Sample, WireError>>,
    },
    Tensors(Vec<v1::Tensor>),
}

impl Input {
    /// Checks names; pixels and shapes are looked at on the model threads.
    pub(super) fn new(
        manifest: &Manifest,
        images: Vec<v1::Image>,
        tensors: Vec<v1::Tensor>,
    ) -> Result<Self, Failure> {
        match (images.is_empty(), tensors.is_empty()) {
            (false, true) => Ok(Self::Images { images, sample: OnceLock::new() }),
            (true, true) => Err(Failure::field("images", "are missing, and so are `tensors`")),
            (false, false) => Err(Failure::field("tensors", "cannot be given beside `images`")),
            (true, false) => {
                for (at, tensor) in tensors.iter().enumerate() {
                    let name = &tensor.name;
                    let field = format!("tensors[{at}].name");
                    if manifest.modality_index(name).is_none() {
                        return Err(Failure::field(
                            field,
                            format!("`{name}` is not a modality of this bundle"),
                        ));
                    }
                    if tensors[..at].iter().any(|earlier| earlier.name == *name) {
                        return Err(Failure::field(field, format!("`{name}` stands twice")));
                    }
                }
                Ok(Self::Tensors(tensors))
            }
        }
    }

    /// Decodes the pictures, if there are any and none of the call's jobs has yet.
    pub(super) fn decode(&self, runner: &Runner) -> Result<(), Failure> {
        match self {
            Self::Images { images, sample } => {
                let decode = || read_images(runner.models().manifest(), "images", images, &Limits::default());
                sample.get_or_init(decode).as_ref().map_err(|error| error.clone())?;
                Ok(())
            }
            Self::Tensors(_) => Ok(()),
        }
    }

    /// An expert's inputs in the manifest's order. Pictures must have been decoded.
    pub(super) fn tensors(&self, runner: &Runner, expert: usize) -> Result<Vec<Tensor>, Failure> {
        match self {
            Self::Images { sample, .. } => match sample.get() {
                Some(Ok(sample)) => Ok(runner.inputs(expert, sample)?),
                Some(Err(error)) => Err(error.clone().into()),
                None => Err(Failure::Model("the pictures were not decoded".to_owned())),
            },
            Self::Tensors(tensors) => {
                let inputs = &runner.models().manifest().experts[expert].inputs;
                let read = |modality: &String, shape: &[usize; 3]| {
                    let at = tensors.iter().position(|tensor| tensor.name == *modality);
                    let at = at.ok_or_else(|| RunError::Absent(modality.clone()))?;
                    let [channels, height, width] = *shape;
                    Ok(read_tensor(&format!("tensors[{at}]"), &tensors[at], &[1, channels, height, width])?)
                };
                inputs.iter().map(|input| read(&input.modality, &input.shape)).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let text = std::fs::read_to_string("../models/factory/bundle.toml").unwrap();
        Manifest::parse(&text).unwrap()
    }

    #[test]
    fn what_is_given_must_be_one_kind_with_known_names_each_once() {
        let manifest = manifest();
        let tensor = |name: &str| v1::Tensor { name: name.to_owned(), ..v1::Tensor::default() };
        let field = |images: usize, tensors: &[&str]| {
            let images = vec![v1::Image::default(); images];
            let tensors = tensors.iter().map(|name| tensor(name)).collect();
            match Input::new(&manifest, images, tensors) {
                Err(Failure::Field(error)) => error.field,
                Err(failure) => panic!("{failure}"),
                Ok(_) => String::new(),
            }
        };
        assert_eq!(field(0, &[]), "images");
        assert_eq!(field(1, &["image"]), "tensors");
        assert_eq!(field(0, &["image", "sound"]), "tensors[1].name");
        assert_eq!(field(0, &["image", "image"]), "tensors[1].name");
        assert_eq!(field(0, &["image", "template"]), "");
        assert_eq!(field(1, &[]), "");
    }
}
