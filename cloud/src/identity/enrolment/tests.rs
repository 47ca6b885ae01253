use jiff::SignedDuration;
use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::identity::claims::Terms;
use crate::identity::config::DevicesConfig;

struct Pool {
    _dir: tempfile::TempDir,
    state: StateDir,
    enrolment: Enrolment,
}

fn pool_with(config: &DevicesConfig) -> Pool {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::new(dir.path());
    let authority = Arc::new(Authority::open_or_make(&state, SystemTime::now()).unwrap());
    let anchors = vec![authority.certificate().clone()];
    let clock = Arc::new(Floor::unkept());
    let enrolment = Enrolment::new(state.clone(), authority, config, clock).unwrap();
    enrolment.set_anchors(anchors);
    Pool { _dir: dir, state, enrolment }
}

fn pool() -> Pool {
    pool_with(&DevicesConfig::default())
}

impl Pool {
    fn token(&self, device: Option<&str>, uses: u32, minutes: i64) -> String {
        let now = Timestamp::now();
        let expires = now + SignedDuration::from_mins(minutes);
        let terms = Terms { tenant: "acme".to_owned(), device: device.map(str::to_owned), expires, uses };
        let authority = millgate_shared::identity::certificate::digest(self.enrolment.authority());
        claims::make(&self.state, authority, terms, now).unwrap().to_string()
    }

    fn revoke(&self, device: &str, revoked: bool) {
        let name = DeviceName::new("acme", device).unwrap();
        devices::set_revoked(&self.state, &name, revoked.then(Timestamp::now)).unwrap();
    }

    fn enrol(&self, token: &str, device: &str, key: &KeyPair) -> Result<Issued, EnrolError> {
        self.enrolment.enrol(token, device, &request(key))
    }
}

fn request(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

#[test]
fn a_token_is_good_once_and_a_lost_answer_costs_nothing() {
    let pool = pool();
    let (token, one) = (pool.token(None, 1, 60), key());
    let issued = pool.enrolment.enrol(&token, "cam-1", &request(&one)).unwrap();
    assert_eq!(issued.name.to_string(), "acme/cam-1");
    // The same device asks again: its answer was lost.
    pool.enrolment.enrol(&token, "cam-1", &request(&one)).unwrap();
    let again = pool.enrolment.enrol(&token, "cam-2", &request(&key()));
    assert!(matches!(again, Err(EnrolError::Used)), "{again:?}");
    let many = pool.token(None, 2, 60);
    pool.enrolment.enrol(&many, "cam-2", &request(&key())).unwrap();
    pool.enrolment.enrol(&many, "cam-3", &request(&key())).unwrap();
    assert!(matches!(pool.enrolment.enrol(&many, "cam-4", &request(&key())), Err(EnrolError::Used)));
    let names: Vec<String> = devices::list(&pool.state).unwrap().into_iter().map(|it| it.device).collect();
    assert_eq!(names, ["cam-1", "cam-2", "cam-3"]);
}

#[test]
fn what_is_wrong_with_a_token_or_a_request_is_told_apart() {
    let (other, pool) = (pool(), pool());
    let refused = |token: &str, device: &str| {
        pool.enrolment.enrol(token, device, &request(&key())).unwrap_err().to_string()
    };
    assert!(refused("mgc_x", "a").contains("no claim token"));
    assert!(refused(&other.token(None, 1, 60), "a").contains("another pool"));
    assert!(refused(&pool.token(None, 1, -1), "a").contains("expired on"));
    assert!(refused(&pool.token(Some("b"), 1, 60), "a").contains("`b` only"));
    assert!(refused(&pool.token(None, 1, 60), "").contains("`device`: is missing"));
    assert!(refused(&pool.token(None, 1, 60), "a/b").contains("`device`"));
    let unknown = Claim {
        secret: millgate_shared::identity::secret::Secret::generate().unwrap(),
        authority: millgate_shared::identity::certificate::digest(pool.enrolment.authority()),
    };
    assert!(refused(&unknown.to_string(), "a").contains("unknown"));
    // What failed has not used the token up.
    let token = pool.token(Some("b"), 1, 60);
    assert!(matches!(pool.enrolment.enrol(&token, "", b"nonsense"), Err(EnrolError::Request(_))));
    assert_eq!(pool.enrolment.enrol(&token, "", &request(&key())).unwrap().name.device(), "b");
}

#[test]
fn a_name_is_taken_until_a_token_says_otherwise_and_a_revoked_one_stays_out() {
    let pool = pool();
    let old = key();
    let first = pool.enrolment.enrol(&pool.token(None, 1, 60), "cam", &request(&old)).unwrap();
    let taken = pool.enrolment.enrol(&pool.token(None, 1, 60), "cam", &request(&key()));
    assert!(taken.unwrap_err().to_string().contains("--tenant acme --device cam"));
    let new = key();
    pool.enrolment.enrol(&pool.token(Some("cam"), 1, 60), "", &request(&new)).unwrap();
    let renewed = pool.enrolment.renew(&first.certificate, &request(&old));
    assert!(matches!(renewed, Err(EnrolError::Replaced(_))), "{renewed:?}");
    pool.revoke("cam", true);
    let again = pool.enrolment.enrol(&pool.token(None, 1, 60), "cam", &request(&key()));
    assert!(matches!(again, Err(EnrolError::Revoked(_))), "{again:?}");
}

#[test]
fn one_key_under_many_names_is_many_uses() {
    let pool = pool();
    let (token, one) = (pool.token(None, 1, 60), key());
    pool.enrol(&token, "cam-1", &one).unwrap();
    let second = pool.enrol(&token, "cam-2", &one);
    assert!(matches!(second, Err(EnrolError::Used)), "{second:?}");
    pool.enrol(&token, "cam-1", &one).unwrap();
    let two = pool.token(None, 2, 60);
    pool.enrol(&two, "cam-2", &one).unwrap();
    pool.enrol(&two, "cam-3", &one).unwrap();
    pool.enrol(&two, "cam-2", &one).unwrap();
    assert!(matches!(pool.enrol(&two, "cam-4", &one), Err(EnrolError::Used)));
}

#[test]
fn a_token_made_after_the_revocation_lets_a_new_key_in_and_the_old_one_stays_out() {
    let pool = pool();
    let (stolen, new) = (key(), key());
    let (first, spare) = (pool.token(Some("cam"), 1, 60), pool.token(Some("cam"), 5, 60));
    let old = pool.enrol(&first, "", &stolen).unwrap();
    pool.revoke("cam", true);
    for (token, key) in [(&first, &stolen), (&first, &new), (&spare, &new), (&pool.token(None, 1, 60), &new)]
    {
        let refused = pool.enrol(token, "cam", key);
        assert!(matches!(refused, Err(EnrolError::Revoked(_))), "{refused:?}");
    }
    let fresh = pool.token(Some("cam"), 2, 60);
    let refused = pool.enrol(&fresh, "", &stolen).unwrap_err().to_string();
    assert!(refused.contains("with a new key") && refused.contains("--device cam"), "{refused}");
    pool.enrol(&fresh, "", &new).unwrap();
    let row = devices::list(&pool.state).unwrap().remove(0);
    assert!(row.revoked.is_none());
    // Whatever the old key has known or used does not bring it back.
    for token in [&first, &spare] {
        let refused = pool.enrol(token, "", &stolen);
        assert!(matches!(refused, Err(EnrolError::Used)), "{refused:?}");
    }
    let renewed = pool.enrolment.renew(&old.certificate, &request(&stolen));
    assert!(matches!(renewed, Err(EnrolError::Replaced(_))), "{renewed:?}");
    pool.enrol(&fresh, "", &new).unwrap();
    assert_eq!(devices::list(&pool.state).unwrap()[0].key, row.key);
}

#[test]
fn a_name_that_was_revoked_without_having_enrolled_is_out_until_a_token_is_made_for_it() {
    let pool = pool();
    let before = pool.token(Some("cam"), 1, 60);
    pool.revoke("cam", true);
    assert!(matches!(pool.enrol(&before, "", &key()), Err(EnrolError::Revoked(_))));
    assert!(matches!(pool.enrol(&pool.token(None, 1, 60), "cam", &key()), Err(EnrolError::Revoked(_))));
    pool.enrol(&pool.token(Some("cam"), 1, 60), "", &key()).unwrap();
}

#[test]
fn a_certificate_is_renewed_for_its_own_key_only() {
    let (other, pool) = (pool(), pool());
    let own = key();
    let issued = pool.enrolment.enrol(&pool.token(None, 1, 60), "cam", &request(&own)).unwrap();
    let renewed = pool.enrolment.renew(&issued.certificate, &request(&own)).unwrap();
    assert_ne!(renewed.certificate, issued.certificate);
    let read = Certificate::from_der(&renewed.certificate).unwrap();
    assert_eq!(read.device, Some(issued.name));
    assert!(devices::list(&pool.state).unwrap()[0].renewed.is_some());
    let stolen = pool.enrolment.renew(&issued.certificate, &request(&key()));
    assert!(matches!(stolen, Err(EnrolError::OtherKey)), "{stolen:?}");
    let foreign = other.enrolment.renew(&issued.certificate, &request(&own));
    assert!(matches!(foreign, Err(EnrolError::Foreign)), "{foreign:?}");
    assert!(matches!(pool.enrolment.renew(b"nonsense", &request(&own)), Err(EnrolError::Foreign)));
    let authority = pool.enrolment.authority().clone();
    assert!(matches!(pool.enrolment.renew(&authority, &request(&own)), Err(EnrolError::Foreign)));
    pool.revoke("cam", true);
    let revoked = pool.enrolment.renew(&issued.certificate, &request(&own));
    assert!(matches!(revoked, Err(EnrolError::Revoked(_))), "{revoked:?}");
    pool.revoke("cam", false);
    pool.enrolment.renew(&issued.certificate, &request(&own)).unwrap();
    // The table was lost: the authority's word is enough.
    std::fs::remove_file(pool.state.file(devices::TABLE)).unwrap();
    pool.enrolment.renew(&issued.certificate, &request(&own)).unwrap();
}

#[test]
fn one_that_has_ended_is_renewed_within_the_grace() {
    let pool = pool_with(&DevicesConfig { renewal_grace_days: 100, ..DevicesConfig::default() });
    let own = key();
    let ended = |days: u64| {
        let then = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
        let name = DeviceName::new("acme", "cam").unwrap();
        let life = Duration::from_secs(24 * 3600);
        pool.enrolment.authority.sign_device(&name, &request(&own), then, life).unwrap()
    };
    pool.enrolment.renew(&ended(90), &request(&own)).unwrap();
    let late = pool.enrolment.renew(&ended(102), &request(&own)).unwrap_err().to_string();
    assert!(late.contains("100 days of grace") && late.contains("enrol the device again"), "{late}");
}
