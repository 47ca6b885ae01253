use millgate_shared::index::Ix;

use super::*;

fn manifest() -> Manifest {
    Manifest::parse(&std::fs::read_to_string("../models/factory/bundle.toml").unwrap()).unwrap()
}

fn policy(image: Form, template: Form) -> UploadPolicy {
    let modality = [("image".to_owned(), image.into()), ("template".to_owned(), template.into())].into();
    UploadPolicy::new(&SendConfig { modality, ..SendConfig::default() }, &manifest()).unwrap()
}

fn image(modality: &str) -> v1::RunExpertsRequest {
    let part = v1::Part { modality: modality.to_owned(), ..v1::Part::default() };
    v1::RunExpertsRequest { parts: vec![part], ..Default::default() }
}

fn tensor(name: &str, shape: &[i64], bytes: usize) -> v1::RunExpertsRequest {
    let tensor = v1::Tensor {
        name: name.to_owned(),
        shape: shape.to_vec(),
        data: vec![0; bytes].into(),
        ..v1::Tensor::default()
    };
    v1::RunExpertsRequest { tensors: vec![tensor], ..Default::default() }
}

#[test]
fn each_form_allows_itself_and_what_tells_less() {
    let manifest = manifest();
    let requests = [
        (Form::Raw, image("image")),
        (Form::Tensor, tensor("image", &[1, 1, 64, 64], 4096)),
        (Form::Features, tensor("embedding", &[1, 64], 256)),
    ];
    for may in Form::ALL {
        let policy = policy(may, Form::Raw);
        for (asked, request) in &requests {
            match policy.clear(&manifest, request.clone()) {
                Ok(upload) => {
                    assert!(*asked >= may, "{may:?} let {asked:?} go");
                    assert_eq!(upload.form(), *asked);
                }
                Err(error) => {
                    assert!(*asked < may, "{may:?} kept {asked:?}: {error}");
                    let modality = "image".to_owned();
                    assert_eq!(error, NotCleared::Withheld { modality, may, asked: *asked });
                }
            }
        }
    }
}

#[test]
fn each_modality_has_its_own() {
    let manifest = manifest();
    let policy = policy(Form::Features, Form::Raw);
    assert!(policy.clear(&manifest, image("template")).is_ok());
    let mut both = image("template");
    both.parts.extend(image("image").parts);
    assert!(policy.clear(&manifest, both).is_err());
    let mut mixed = image("template");
    mixed.tensors = tensor("embedding", &[1, 64], 64).tensors;
    assert_eq!(policy.clear(&manifest, mixed).unwrap().form(), Form::Raw);
}

#[test]
fn nothing_else_goes_by_the_name_of_an_embedding() {
    let manifest = manifest();
    let policy = policy(Form::Features, Form::Features);
    for request in [
        tensor("embedding", &[1, 4096], 256),
        tensor("embedding", &[1, 64], 257),
        tensor("embedding", &[64, 64], 256),
        tensor("embedding", &[], 256),
        tensor("embedding.template", &[1, 64], 256),
        tensor("sound", &[1, 64], 256),
        image("sound"),
        image("embedding"),
    ] {
        assert!(policy.clear(&manifest, request.clone()).is_err(), "{request:?}");
    }
}

#[test]
fn experts_that_need_pixels_are_named_by_the_modality() {
    let manifest = manifest();
    let of = |image, template, name: &str| {
        policy(image, template).withheld(&manifest, manifest.expert_index(name).unwrap())
    };
    assert_eq!(of(Form::Features, Form::Raw, "steel-l"), manifest.modality_index("image"));
    assert_eq!(of(Form::Raw, Form::Features, "pcb-l"), manifest.modality_index("template"));
    assert_eq!(of(Form::Raw, Form::Features, "steel-l"), None);
    assert_eq!(of(Form::Tensor, Form::Tensor, "pcb-l"), None);
}

#[test]
fn a_modality_that_the_bundle_does_not_have_is_named() {
    let modality = [("sound".to_owned(), SendForm::Features)].into();
    let config = SendConfig { modality, ..SendConfig::default() };
    assert_eq!(UploadPolicy::new(&config, &manifest()), Err("sound".to_owned()));
    let config = SendConfig { default: SendForm::Features, ..SendConfig::default() };
    assert_eq!(UploadPolicy::new(&config, &manifest()).unwrap().form(ModalityIx::new(0)), Form::Features);
}
