use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::super::clock::built;
use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// An authority, and a certificate for `pool.example` that begins then and is good for 90 days.
fn signed(from: SystemTime) -> (CertificateDer<'static>, CertificateDer<'static>) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |time: SystemTime| epoch + time.duration_since(UNIX_EPOCH).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap().der().clone();
    let issuer = Issuer::new(params, key);
    let mut params = CertificateParams::new(vec!["pool.example".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (at(from), at(from + 90 * DAY));
    let leaf = params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone();
    (authority, leaf)
}

fn accept(authority: &CertificateDer<'static>, leaf: &CertificateDer<'_>, clock: &Arc<Floor>) -> bool {
    let roots = Roots::new(vec![authority.clone()], Arc::clone(clock)).unwrap();
    let name = ServerName::try_from("pool.example").unwrap();
    let now = clock.now().duration_since(UNIX_EPOCH).unwrap();
    let now = UnixTime::since_unix_epoch(now);
    ServerCertVerifier::verify_server_cert(roots.as_ref(), leaf, &[], &name, &[], now).is_ok()
}

#[test]
fn a_clock_that_was_ahead_and_is_set_right_is_believed_again() {
    let from = UNIX_EPOCH + Duration::from_secs(built().duration_since(UNIX_EPOCH).unwrap().as_secs()) + DAY;
    let (authority, leaf) = signed(from);
    let ahead = Arc::new(Floor::with_system(None, || built() + 80 * DAY));
    assert!(accept(&authority, &leaf, &ahead));
    // What it has learnt is the beginning of the certificate, and not what it took for now.
    assert!(ahead.floor() >= from && ahead.floor() < from + DAY, "{:?}", ahead.floor());
}

#[test]
fn one_that_is_behind_learns_the_beginning_of_what_it_accepts() {
    let from =
        UNIX_EPOCH + Duration::from_secs(built().duration_since(UNIX_EPOCH).unwrap().as_secs()) + 400 * DAY;
    let (authority, leaf) = signed(from);
    let behind = Arc::new(Floor::with_system(None, || UNIX_EPOCH + DAY));
    assert!(accept(&authority, &leaf, &behind));
    assert!(behind.floor() >= from && behind.floor() < from + DAY);
    let (stranger, _) = signed(from);
    let unmoved = Arc::new(Floor::with_system(None, || UNIX_EPOCH + DAY));
    assert!(!accept(&stranger, &leaf, &unmoved));
    assert!(unmoved.floor() < from);
}
