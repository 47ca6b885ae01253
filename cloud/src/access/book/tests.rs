use std::time::{Duration, SystemTime};

use millgate_shared::digest::hex;

use super::*;
use crate::access::rights::Kind;
use crate::config::DeviceBounds;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn token(name: &str, hash: Fingerprint) -> Token {
    Token {
        name: name.to_owned(),
        tenant: "acme".to_owned(),
        hash: hex(&hash),
        tasks: None,
        models: None,
        admin: false,
        priority: None,
        created: at(0),
        expires: None,
        revoked: None,
    }
}

fn certificate(device: Option<&str>, key: Fingerprint) -> Who {
    let now = SystemTime::UNIX_EPOCH;
    Who::Device(Arc::new(Certificate {
        device: device.map(|device| DeviceName::new("acme", device).unwrap()),
        key,
        fingerprint: [0; 32],
        serial: String::new(),
        not_before: now,
        not_after: now + Duration::from_secs(2000),
        names: Vec::new(),
        is_authority: false,
        is_self_issued: false,
    }))
}

fn device(name: &str, key: Fingerprint, revoked: Option<Timestamp>) -> Device {
    Device {
        tenant: "acme".to_owned(),
        device: name.to_owned(),
        key: Some(hex(&key)),
        serial: String::new(),
        enrolled: Some(at(0)),
        renewed: None,
        not_after: Some(at(1)),
        revoked,
    }
}

fn denial(book: &Book, who: &Who) -> Denial {
    book.rights(who, at(1000)).unwrap_err()
}

#[test]
fn each_way_to_be_nobody_has_its_own_words() {
    let mut gone = token("gone", [1; 32]);
    gone.revoked = Some(at(5));
    let mut late = token("late", [2; 32]);
    late.expires = Some(at(999));
    // It came from elsewhere, and whatever key it has does not count.
    let keyless = Device { key: None, ..device("cam-3", [9; 32], Some(at(5))) };
    let unreadable = Device { key: Some("what?".to_owned()), ..device("cam-4", [9; 32], None) };
    let devices =
        vec![device("cam-1", [7; 32], None), device("cam-2", [8; 32], Some(at(5))), keyless, unreadable];
    let book = Book::new(Loopback::Token, Vec::new(), devices, vec![gone, late]);
    let name = |device: &str| DeviceName::new("acme", device).unwrap();
    for (who, expected, is_unauthenticated) in [
        (Who::Local, Denial::Nobody, true),
        (Who::Plain, Denial::Nobody, true),
        (Who::Nobody, Denial::Nobody, true),
        (Who::Malformed, Denial::Malformed, true),
        (Who::Token([9; 32]), Denial::UnknownToken, true),
        (Who::Token([1; 32]), Denial::TokenRevoked("gone".to_owned()), true),
        (Who::Token([2; 32]), Denial::TokenExpired { name: "late".to_owned(), at: at(999) }, true),
        (certificate(None, [7; 32]), Denial::NoDevice, true),
        (certificate(Some("cam-1"), [6; 32]), Denial::DeviceReplaced(name("cam-1")), true),
        (certificate(Some("cam-2"), [8; 32]), Denial::DeviceRevoked(name("cam-2")), false),
        (certificate(Some("cam-3"), [1; 32]), Denial::DeviceRevoked(name("cam-3")), false),
        (certificate(Some("cam-4"), [9; 32]), Denial::DeviceReplaced(name("cam-4")), true),
    ] {
        let denied = denial(&book, &who);
        assert_eq!(denied, expected);
        assert_eq!(denied.is_unauthenticated(), is_unauthenticated, "{denied}");
    }
    assert!(book.rights(&certificate(Some("cam-1"), [7; 32]), at(0)).is_ok());
    // On a connection that has outlived it.
    let ended = book.rights(&certificate(Some("cam-1"), [7; 32]), at(2001)).unwrap_err();
    assert_eq!(ended, Denial::CertificateEnded { device: name("cam-1"), at: at(2000) });
    // A device without a row: the table was lost, its certificate is as good as ever.
    assert!(book.rights(&certificate(Some("cam-9"), [9; 32]), at(0)).is_ok());
}

#[test]
fn this_machine_may_do_all_and_nobody_else_changes_the_pool_unasked() {
    let book = Book::new(Loopback::Full, Vec::new(), Vec::new(), vec![token("t", [1; 32])]);
    let may_change = |who: &Who| book.rights(who, at(0)).unwrap().may_change_the_pool().is_ok();
    assert!(may_change(&Who::Local) && !may_change(&Who::Plain));
    assert_eq!(book.rights(&Who::Plain, at(0)).unwrap().may_ask("inspect"), Ok(()));
    assert!(!may_change(&certificate(Some("cam-1"), [7; 32])) && !may_change(&Who::Token([1; 32])));
    let admin = Token { admin: true, ..token("a", [2; 32]) };
    let book = Book::new(Loopback::Full, Vec::new(), Vec::new(), vec![admin]);
    assert!(book.rights(&Who::Token([2; 32]), at(0)).unwrap().may_change_the_pool().is_ok());
}

#[test]
fn a_tenants_bounds_hold_for_its_devices_and_its_tokens() {
    let list = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    let narrow =
        DeviceBounds { name: "cam-1".to_owned(), tasks: None, models: list(&["pcb-s"]), priority: None };
    let acme = TenantConfig {
        tasks: list(&["inspect"]),
        models: list(&["pcb-*"]),
        devices: vec![narrow],
        ..TenantConfig::named("acme")
    };
    let mut scoped = token("scoped", [1; 32]);
    scoped.models = list(&["pcb-l", "steel-l"]);
    let foreign = Token { tenant: "other".to_owned(), ..token("foreign", [2; 32]) };
    let book = Book::new(Loopback::Full, vec![acme], Vec::new(), vec![scoped, foreign]);
    let runs = |who: &Who, model: &str| book.rights(who, at(0)).unwrap().may_run(model, Kind::Other).is_ok();
    let (one, two) = (certificate(Some("cam-1"), [7; 32]), certificate(Some("cam-2"), [7; 32]));
    assert!(runs(&one, "pcb-s") && !runs(&one, "pcb-l"));
    assert!(runs(&two, "pcb-s") && runs(&two, "pcb-l") && !runs(&two, "steel-l"));
    let token = Who::Token([1; 32]);
    assert!(runs(&token, "pcb-l") && !runs(&token, "pcb-s") && !runs(&token, "steel-l"));
    assert!(book.rights(&two, at(0)).unwrap().may_ask("maintain").is_err());
    let denied = denial(&book, &Who::Token([2; 32]));
    assert_eq!(denied.reason(), "tenant");
    assert!(denied.to_string().contains("`other`") && denied.to_string().contains("`foreign`"), "{denied}");
}

#[test]
fn a_share_is_its_tenants_and_a_rank_is_its_own_or_its_tenants() {
    let urgent = DeviceBounds { name: "cam-1".to_owned(), tasks: None, models: None, priority: Some(10) };
    let acme = TenantConfig { share: 3, priority: 100, devices: vec![urgent], ..TenantConfig::named("acme") };
    let own = Token { priority: Some(50), ..token("own", [1; 32]) };
    let tenants = Book::new(Loopback::Full, vec![acme], Vec::new(), vec![own, token("none", [2; 32])]);
    let nobody = Book::new(Loopback::Full, Vec::new(), Vec::new(), vec![token("none", [2; 32])]);
    let (one, two) = (certificate(Some("cam-1"), [7; 32]), certificate(Some("cam-2"), [7; 32]));
    let of = |book: &Book, who: &Who| {
        let rights = book.rights(who, at(0)).unwrap();
        rights.standing().map(|standing| (standing.share, standing.priority))
    };
    assert_eq!([&one, &two].map(|who| of(&tenants, who)), [Some((3, 10)), Some((3, 100))]);
    assert_eq!(
        [[1; 32], [2; 32]].map(|hash| of(&tenants, &Who::Token(hash))),
        [Some((3, 50)), Some((3, 100))]
    );
    assert_eq!([&one, &Who::Token([2; 32])].map(|who| of(&nobody, who)), [Some((1, 128)); 2]);
    assert_eq!((of(&nobody, &Who::Local), of(&nobody, &Who::Plain)), (Some((1, 0)), None));
}
