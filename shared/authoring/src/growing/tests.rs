use millgate_bundle::Bundle;
use millgate_mixture::proof::golden;

use super::*;
use crate::data::{Asked, Labelled, Naming};
use crate::onnx::GraphBuilder;
use crate::progress::Silent;

fn factory() -> Bundle {
    Bundle::open(Path::new("../../models/factory")).unwrap()
}

/// An expert on embeddings, for so many labels.
fn expert(input: &str, labels: usize) -> Vec<u8> {
    let mut graph = GraphBuilder::new("expert");
    let x = graph.input(input, &[64]);
    let weights: Vec<f32> = (0..64 * labels).map(|at| ((at * 37 % 19) as f32 - 9.0) * 0.02).collect();
    let weight = graph.float(&[64, labels], &weights);
    let bias = graph.float(&[labels], &vec![0.0; labels]);
    let logits = graph.gemm(&x, &weight, &bias);
    graph.output(&logits, "logits", &[labels]);
    let feat = graph.relu(&x);
    graph.output(&feat, "feat", &[64]);
    graph.finish()
}

/// Pictures of a product that is like none of the bundle's: stripes, wide or narrow.
fn stripes(dir: &Path) -> Labelled {
    for (class, width) in [("wide", 12), ("narrow", 4)] {
        std::fs::create_dir_all(dir.join(class)).unwrap();
        for number in 0..16_u32 {
            let level = |x: u32, y: u32| (((x + y + number) / width % 2) * 120 + number * 3 + 60) as u8;
            let picture = image::GrayImage::from_fn(64, 64, |x, y| image::Luma([level(x, y)]));
            picture.save(dir.join(class).join(format!("{number:02}.png"))).unwrap();
        }
    }
    let naming = Naming::of(factory().manifest());
    Labelled::read(dir, &Asked { naming: &naming, product: Some("stripes"), least_of_a_class: 2 }).unwrap()
}

fn labels() -> Vec<String> {
    ["narrow", "stripes/wide"].map(str::to_owned).into()
}

fn request<'a>(model: &'a [u8], labels: &'a [String], data: Option<&'a Labelled>) -> Request<'a> {
    Request {
        file: "stripes.onnx",
        model,
        labels,
        product: "stripes",
        name: Some("stripes-s"),
        tier: "edge",
        task: None,
        good: &[],
        data,
        old: None,
    }
}

fn check(bundle: &Bundle) {
    let models = Arc::new(Models::load(bundle, Holding::All, &Tract).unwrap());
    golden::check(bundle, &models).unwrap();
}

#[test]
fn an_expert_comes_and_goes_and_old_decisions_stay() {
    let dir = tempfile::tempdir().unwrap();
    let data = stripes(&dir.path().join("data"));
    let out = dir.path().join("out");
    let (model, labels) = (expert("embedding", 2), labels());
    let mut draft = Draft::open(&factory()).unwrap();
    let good = ["wide".to_owned()];
    let request = Request { good: &good, ..request(&model, &labels, Some(&data)) };
    let added = add(&mut draft, &out, &request, &Silent).unwrap();
    let goldens = factory().manifest().golden.decisions.len();
    assert_eq!((added.expert.as_str(), added.proven), ("stripes-s", goldens));
    assert_ne!(added.version, factory().manifest().version);
    assert_eq!(added.labels, ["stripes/narrow", "stripes/wide"]);
    assert!(added.is_found_by_gate, "{:?}", added.notes);
    assert!(added.found.unwrap() > 0.9, "{added:?}");
    let bundle = draft.write(&out).unwrap();
    check(&bundle);
    let manifest = bundle.manifest();
    assert_eq!(manifest.tasks[millgate_sample::index::Ix::new(0)].labels.len(), 18);
    assert_eq!(manifest.offload.thresholds.len(), factory().manifest().offload.thresholds.len());
    let product = manifest.product("stripes").unwrap();
    assert_eq!(product.dispositions["stripes/wide"], millgate_model::recipe::Disposition::Accept);
    assert_eq!(product.dispositions["stripes/narrow"], millgate_model::recipe::Disposition::Reject);

    // And away again: everything is as it was but the version and the gate's file.
    let mut draft = Draft::open(&bundle).unwrap();
    let removed = remove(&mut draft, &out, "stripes-s", &Silent).unwrap();
    assert_eq!(removed.labels, ["stripes/narrow", "stripes/wide"]);
    assert_eq!(removed.products, ["stripes"]);
    assert_eq!(removed.version, "2.0.0", "labels went away");
    assert!(removed.files.iter().all(|file| file.contains("stripes-s")), "{:?}", removed.files);
    let bundle = draft.write(&dir.path().join("less")).unwrap();
    check(&bundle);
    assert_eq!(bundle.manifest().product("stripes"), None);
    assert_eq!(bundle.manifest().products, factory().manifest().products);
    assert_eq!(bundle.manifest().tasks[millgate_sample::index::Ix::new(0)].labels.len(), 16);
    // bsdata has no golden decisions that could show that nothing has changed; it has no thresholds either.
    assert!(removed.uncertified.is_empty(), "{removed:?}");
}

#[test]
fn without_samples_the_expert_answers_only_where_it_is_asked_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (model, labels) = (expert("embedding", 2), labels());
    let mut draft = Draft::open(&factory()).unwrap();
    let added = add(&mut draft, &dir.path().join("out"), &request(&model, &labels, None), &Silent).unwrap();
    assert!(!added.is_found_by_gate && added.proven > 0);
    assert!(added.notes.iter().any(|note| note.contains("labels = [\"stripes\"]")), "{:?}", added.notes);
    check(&draft.write(&dir.path().join("out")).unwrap());
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let (labels, two) = (labels(), expert("embedding", 2));
    let refused = |request: &Request<'_>| {
        let mut draft = Draft::open(&factory()).unwrap();
        let error = add(&mut draft, &out, request, &Silent).unwrap_err().to_string();
        assert_eq!(draft.text(), Draft::open(&factory()).unwrap().text(), "it is left as it was");
        error
    };
    let contains = |error: String, what: &str| assert!(error.contains(what), "{error}");
    let other = expert("sound", 2);
    contains(
        refused(&request(&other, &labels, None)),
        "stripes.onnx: input `sound` is nothing that this bundle has",
    );
    let three = expert("embedding", 3);
    contains(refused(&request(&three, &labels, None)), "output `logits` is [1, 3], and 2 labels were given");
    contains(refused(&request(b"no model", &labels, None)), "stripes.onnx: ");
    contains(refused(&Request { name: Some("pcb-s"), ..request(&two, &labels, None) }), "`pcb-s` is a model");
    contains(refused(&Request { tier: "fog", ..request(&two, &labels, None) }), "`tier`: `fog` is neither");
    contains(refused(&Request { task: Some("sort"), ..request(&two, &labels, None) }), "`task`: `sort`");
    let strange = ["steel/rust".to_owned(), "wide".to_owned()];
    contains(refused(&request(&two, &strange, None)), "`steel/rust` is not a class of product `stripes`");
    let twice = ["wide".to_owned(), "stripes/wide".to_owned()];
    contains(refused(&request(&two, &twice, None)), "`stripes/wide` stands twice");
    let data = stripes(&dir.path().join("data"));
    let fewer = ["thin".to_owned(), "wide".to_owned()];
    contains(refused(&request(&two, &fewer, Some(&data))), "`stripes/narrow`, which is not among the labels");
    let mut draft = Draft::open(&factory()).unwrap();
    let error = remove(&mut draft, &out, "nobody", &Silent).unwrap_err().to_string();
    contains(error, "`nobody` is not an expert of this bundle: it has pcb-s");
}

#[test]
fn a_gate_that_cannot_grow_is_refused_with_the_reason() {
    let mut graph = GraphBuilder::new("gate");
    let scores = graph.input("scores", &[2]);
    graph.output(&scores, "scores", &[2]);
    let error = gate::grown(&graph.finish(), &row::never(4)).unwrap_err().to_string();
    assert!(error.contains("the gate cannot grow: it has no input `embeddings`"), "{error}");
}

#[test]
fn an_expert_that_others_stand_in_for_goes_with_what_was_certified_by_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut draft = Draft::open(&factory()).unwrap();
    let removed = remove(&mut draft, &dir.path().join("out"), "generalist-s", &Silent).unwrap();
    assert!(removed.labels.is_empty() && removed.products.is_empty());
    assert!(removed.substitutes.contains(&"steel-s".to_owned()), "{removed:?}");
    assert_eq!(removed.uncertified, ["deeppcb", "xsdd"]);
    let bundle = draft.write(&dir.path().join("out")).unwrap();
    assert!(bundle.manifest().offload.thresholds.is_empty());
    check(&bundle);
}
