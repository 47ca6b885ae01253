//! What a call brings for its experts: pictures, decoded once for all of them, or tensors as the experts take them.

use std::sync::Arc;

use millgate_shared::bundle::manifest::Manifest;
use millgate_shared::image::Limits;
use millgate_shared::proto::v1;
use millgate_shared::runner::{RunError, expert_inputs};
use millgate_shared::tensor::Tensor;
use millgate_shared::wire::{read_images, read_tensor};

use crate::failure::Failure;
use crate::serving::Serving;
use crate::serving::request::Call;

#[derive(Debug)]
pub(super) enum Input {
    Images(Vec<v1::Image>),
    Tensors(Vec<v1::Tensor>),
}

impl Input {
    /// Checks names; pixels and shapes are looked at later.
    pub(super) fn new(
        manifest: &Manifest,
        images: Vec<v1::Image>,
        tensors: Vec<v1::Tensor>,
    ) -> Result<Self, Failure> {
        match (images.is_empty(), tensors.is_empty()) {
            (false, true) => Ok(Self::Images(images)),
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

    /// Each expert's inputs in the manifest's order. Pictures are decoded, once, on a model thread; what is wrong with
    /// them is wrong with the whole call.
    pub(super) async fn tensors(
        self,
        manifest: &Arc<Manifest>,
        experts: &[usize],
        serving: &Serving,
        call: Call,
    ) -> Result<Vec<Result<Vec<Tensor>, Failure>>, Failure> {
        match self {
            Self::Images(images) => {
                let bytes = images.iter().map(|image| image.data.len()).sum();
                let (manifest, experts) = (Arc::clone(manifest), experts.to_vec());
                let work = move || {
                    let sample = read_images(&manifest, "images", &images, &Limits::default())?;
                    let inputs = |expert: &usize| Ok(expert_inputs(&manifest, *expert, &sample)?);
                    Ok(experts.iter().map(inputs).collect())
                };
                serving.on_thread(call, bytes, work).await
            }
            Self::Tensors(tensors) => {
                Ok(experts.iter().map(|expert| given(manifest, *expert, &tensors)).collect())
            }
        }
    }
}

fn given(manifest: &Manifest, expert: usize, tensors: &[v1::Tensor]) -> Result<Vec<Tensor>, Failure> {
    let read = |modality: &String, shape: &[usize; 3]| {
        let at = tensors.iter().position(|tensor| tensor.name == *modality);
        let at = at.ok_or_else(|| RunError::Absent(modality.clone()))?;
        let [channels, height, width] = *shape;
        Ok(read_tensor(&format!("tensors[{at}]"), &tensors[at], &[1, channels, height, width])?)
    };
    manifest.experts[expert].inputs.iter().map(|input| read(&input.modality, &input.shape)).collect()
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
