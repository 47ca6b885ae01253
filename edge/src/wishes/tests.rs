use millgate_shared::modality::image::{REGION, TILE};

use super::*;

fn manifest() -> Manifest {
    Manifest::parse(&std::fs::read_to_string("../models/factory/bundle.toml").unwrap()).unwrap()
}

fn policies(wishes: &Wishes) -> Result<Policies, Refused> {
    let manifest = manifest();
    wishes.policies("inspect", Policy::for_bundle(&manifest), &manifest)
}

fn of_source(wish: SourceWish) -> Wishes {
    let sources = [("cam1".to_owned(), ("sources[2]".to_owned(), wish))].into();
    Wishes { sources, ..Wishes::default() }
}

#[test]
fn without_wishes_every_sample_is_decided_as_before() {
    let policies = policies(&Wishes::default()).unwrap();
    let standard = Asked {
        task: "inspect".to_owned(),
        policy: Policy::for_bundle(&manifest()),
        attributes: Attributes::new(),
        stuck_after: 0,
    };
    assert_eq!(*policies.standard(), standard);
    assert_eq!(*policies.of(Some("cam1")), standard);
    assert_eq!(*policies.of(None), standard);
}

#[test]
fn a_source_has_its_own_where_it_says_so_and_what_holds_for_all_elsewhere() {
    let wish = SourceWish { labels: vec!["deeppcb".to_owned()], risk: Some(0.01), ..SourceWish::default() };
    let recipe = RecipeConfig {
        labels: [("deeppcb/normal".to_owned(), Disposition::Accept)].into(),
        false_alarms: Some(0.05),
        ..RecipeConfig::default()
    };
    let wishes = Wishes { recipe, labels: vec!["xsdd".to_owned()], ..of_source(wish) };
    let policies = policies(&wishes).unwrap();
    let (own, standard) = (&policies.of(Some("cam1")).policy, &policies.of(Some("cam2")).policy);
    assert_eq!((&own.scope, own.risk), (&Scope::of(["deeppcb"]), 0.01));
    assert_eq!((&standard.scope, standard.risk), (&Scope::of(["xsdd"]), manifest().offload.default_risk));
    for policy in [own, standard] {
        assert_eq!(policy.false_alarms, Some(0.05));
        assert_eq!(policy.recipe.as_ref().unwrap().of_label("deeppcb/normal"), Disposition::Accept);
    }
}

#[test]
fn what_a_source_looks_at_is_said_by_its_pictures() {
    let wish =
        SourceWish { regions: vec![[0, 0, 64, 64], [64, 0, 64, 64]], tile: Some(32), ..Default::default() };
    let policies = policies(&of_source(wish)).unwrap();
    let attributes = &policies.of(Some("cam1")).attributes;
    assert_eq!((&*attributes[REGION], &*attributes[TILE]), ("0,0,64,64;64,0,64,64", "32"));
    assert!(policies.standard().attributes.is_empty());
}

#[test]
fn what_the_bundle_does_not_have_is_refused_by_its_key() {
    let label = |label: &str| RecipeConfig {
        labels: [(label.to_owned(), Disposition::Accept)].into(),
        ..RecipeConfig::default()
    };
    let source = |wish| of_source(wish);
    for (wishes, key) in [
        (Wishes { recipe: label("deeppcb/opne"), ..Wishes::default() }, "recipe.labels.\"deeppcb/opne\""),
        (Wishes { recipe: label("unknown"), ..Wishes::default() }, "recipe.labels.unknown"),
        (Wishes { labels: vec!["magtile".to_owned()], ..Wishes::default() }, "labels"),
        (
            source(SourceWish { labels: vec!["magtile".to_owned()], ..Default::default() }),
            "sources[2].labels",
        ),
        (source(SourceWish { task: Some("sort".to_owned()), ..Default::default() }), "sources[2].task"),
        (source(SourceWish { stuck_after: 1, ..Default::default() }), "sources[2].stuck_after"),
        (source(SourceWish { tile: Some(4), ..Default::default() }), "sources[2].tile"),
        (source(SourceWish { regions: vec![[0, 0, 4, 4]], ..Default::default() }), "sources[2].regions"),
        (source(SourceWish { risk: Some(1.0), ..Default::default() }), "sources[2].risk"),
        (source(SourceWish { false_alarms: Some(1.0), ..Default::default() }), "sources[2].false_alarms"),
    ] {
        assert_eq!(policies(&wishes).unwrap_err().key, key);
    }
}

#[test]
fn costs_that_are_no_costs_are_refused_by_their_key() {
    let costs = |escape, false_reject, review| RecipeConfig {
        costs: Some(Costs { escape, false_reject, review }),
        ..RecipeConfig::default()
    };
    let key = |recipe: RecipeConfig| recipe.check().unwrap_err().key;
    assert_eq!(costs(1.0, 0.0, Some(0.5)).check(), Ok(()));
    assert_eq!(key(costs(-1.0, 1.0, None)), "recipe.costs.escape");
    assert_eq!(key(costs(1.0, f64::NAN, None)), "recipe.costs.false_reject");
    assert_eq!(key(costs(1.0, 1.0, Some(f64::INFINITY))), "recipe.costs.review");
    assert_eq!(
        key(RecipeConfig { false_alarms: Some(1.5), ..RecipeConfig::default() }),
        "recipe.false_alarms"
    );
}
