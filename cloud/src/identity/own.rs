//! The pool's own certificate, where its own authority signs it: made at the start, made again when the greater part of
//! its life is over, or when it lacks a name. Key and chain are one file, so that they cannot be parted; each node that
//! shares a `state_dir` has its own.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use millgate_shared::files;
use millgate_shared::identity::held::Chain;

use super::authority::Authority;
use super::{StateDir, StateError};

const LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

/// `node` is good as part of a file's name.
fn file(node: &str) -> String {
    format!("server-{node}.pem")
}

pub(super) fn path(state: &StateDir, node: &str) -> PathBuf {
    state.file(&file(node))
}

/// Signs a new one if the one that is there will not do. Says whether it did. Blocks.
pub(super) fn ensure(
    state: &StateDir,
    authority: &Authority,
    node: &str,
    names: &[String],
    now: SystemTime,
) -> Result<bool, StateError> {
    let path = path(state, node);
    let will_do = Chain::read(&path, &path).is_ok_and(|chain| {
        let leaf = chain.leaf();
        chain.certificates().last() == Some(authority.certificate())
            && leaf.not_before <= now
            && now < leaf.renewal()
            && names.iter().all(|name| leaf.names.contains(name))
    });
    if will_do {
        return Ok(false);
    }
    let signed = authority.sign_server(names, now, LIFE)?;
    let locked = state.lock()?;
    state.write(&locked, &file(node), signed.as_bytes(), files::PRIVATE)?;
    Ok(true)
}

/// What clients may call this pool: what the configuration names, the node, the machine, and the addresses that it
/// listens on. Those of further network cards are not known, and belong into the configuration.
pub(crate) fn names(configured: &[String], node: &str, listen: &[SocketAddr]) -> Vec<String> {
    let mut names: Vec<String> = configured.to_vec();
    names.push(node.to_ascii_lowercase());
    // Not from /proc, which a service may not see.
    names.push(rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase());
    names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    for address in listen.iter().map(SocketAddr::ip) {
        match address.is_unspecified() {
            false => names.push(address.to_string()),
            true => names.extend(outward(address).map(|address| address.to_string())),
        }
    }
    let mut unique = Vec::new();
    for name in names {
        let (name, good) = match name.parse::<IpAddr>() {
            // As it is read from a certificate again.
            Ok(address) => (address.to_string(), true),
            Err(_) => {
                let good = rustls::pki_types::DnsName::try_from(name.as_str()).is_ok();
                (name, good)
            }
        };
        if good && !unique.contains(&name) {
            unique.push(name);
        }
    }
    unique
}

/// This machine's address on the way out; nothing is sent to find it.
fn outward(unspecified: IpAddr) -> Option<IpAddr> {
    let far = if unspecified.is_ipv4() { "192.0.2.1:9" } else { "[2001:db8::1]:9" };
    let socket = UdpSocket::bind((unspecified, 0)).ok()?;
    socket.connect(far).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_until_it_is_old_or_lacks_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        let now = SystemTime::now();
        let authority = Authority::open_or_make(&state, now).unwrap();
        let pool = |more: &str| names(&[more.to_owned()], "Node_1", &["10.1.2.3:0".parse().unwrap()]);
        let names = pool("pool.example");
        for name in ["pool.example", "node_1", "localhost", "127.0.0.1", "::1", "10.1.2.3"] {
            assert!(names.contains(&name.to_owned()), "{name} in {names:?}");
        }
        let again = |names: &[String], at| ensure(&state, &authority, "one", names, at).unwrap();
        assert!(again(&names, now));
        assert!(!again(&names, now));
        assert!(again(&pool("other.example"), now));
        assert!(!again(&names[1..], now));
        assert!(!again(&names[1..], now + LIFE / 2));
        assert!(again(&names[1..], now + LIFE * 3 / 4));
        assert_eq!(files::readable_by_others(&path(&state, "one")).unwrap(), 0);
    }

    #[test]
    fn nodes_that_share_a_folder_and_addresses_in_any_form_are_no_reason_to_sign_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        let now = SystemTime::now();
        let authority = Authority::open_or_make(&state, now).unwrap();
        let configured = ["FD00:0:0::1", "::ffff:10.0.0.9", "2001:db8::a00:1"].map(str::to_owned);
        for node in ["one", "two"] {
            let names = names(&configured, node, &["[fd00::2]:0".parse().unwrap()]);
            assert!(names.contains(&"fd00::1".to_owned()), "{names:?}");
            assert!(ensure(&state, &authority, node, &names, now).unwrap());
        }
        for node in ["one", "two"] {
            let names = names(&configured, node, &["[fd00::2]:0".parse().unwrap()]);
            assert!(!ensure(&state, &authority, node, &names, now).unwrap(), "{node}");
        }
    }

    #[test]
    fn the_machines_name_is_among_them() {
        let machine = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
        let names = names(&[], "n", &[]);
        assert!(machine.is_empty() || names.contains(&machine), "{machine} in {names:?}");
    }
}
