//! Pools with TLS, devices that have enrolled at them, API tokens, and certificates of other authorities.

use std::path::{Path, PathBuf};
use std::time::Duration;

use millgate_cloud::access::tokens::{self, Token};
use millgate_cloud::command::Output;
use millgate_cloud::command::identity::{ClaimArgs, StateArgs, enroll_token};
use millgate_cloud::config::CloudConfig;
use millgate_cloud::identity::StateDir;
use millgate_cloud::server::Running;
use millgate_edge::identity::Identity;
use millgate_edge::identity::IdentityConfig;
use millgate_edge::identity::asking::{AskError, Enrolment, enrol};
use millgate_edge::identity::store::Store;
use millgate_shared::identity::dial::{DialError, H2, dial};
use millgate_shared::proto::v1::expert_service_client::ExpertServiceClient;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::{PATIENCE, pool_with};

/// A pool that speaks TLS, and its `state_dir`.
#[derive(Debug)]
pub struct TlsPool {
    pub pool: Running,
    pub dir: TempDir,
}

pub async fn tls_pool() -> TlsPool {
    tls_pool_with(|_, _| {}).await
}

/// `change` is also told the folder, whose `state` is the `state_dir`.
pub async fn tls_pool_with(change: impl FnOnce(&mut CloudConfig, &Path)) -> TlsPool {
    let dir = tempfile::tempdir().expect("a folder");
    let pool = pool_with(|config| {
        config.tls.enabled = Some(true);
        config.state_dir = dir.path().join("state");
        change(config, dir.path());
    })
    .await;
    TlsPool { pool, dir }
}

impl TlsPool {
    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn state(&self) -> StateDir {
        StateDir::new(&self.state_dir())
    }

    /// A claim token, from the command.
    pub fn claim(&self, tenant: &str, device: Option<&str>, ttl: Duration) -> String {
        let file = |name: &str| self.dir.path().join(name);
        let config = file("pool.pem").exists().then(|| {
            let (certificate, key) = (file("pool.pem"), file("pool.key"));
            let text = format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n");
            std::fs::write(file("cloud.toml"), text).expect("a folder");
            file("cloud.toml")
        });
        let args = ClaimArgs {
            state: StateArgs { config, state_dir: Some(self.state_dir()) },
            tenant: tenant.to_owned(),
            device: device.map(str::to_owned),
            ttl,
            uses: 1,
            output: Output::Text,
        };
        let mut out = Vec::new();
        enroll_token(args, &mut out).expect("a token");
        String::from_utf8(out).expect("text").trim().to_owned()
    }

    /// An API token with these bounds.
    pub fn token(&self, change: impl FnOnce(&mut Token)) -> String {
        let mut token = Token {
            name: "client".to_owned(),
            tenant: "default".to_owned(),
            hash: String::new(),
            tasks: None,
            models: None,
            admin: false,
            priority: None,
            created: now(),
            expires: None,
            revoked: None,
        };
        change(&mut token);
        tokens::create(&self.state(), token)
            .expect("the state can be written")
            .expect("a new name")
            .api_token()
    }

    pub async fn device(&self, tenant: &str, device: &str) -> Device {
        let claim = self.claim(tenant, Some(device), Duration::from_secs(600));
        let device = Device::new();
        device.enrol(&self.pool.url(), &claim, "").await.expect("it enrols");
        device
    }
}

pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// Certificate and key as files, and the configuration that names them.
pub fn shown(config: &mut CloudConfig, dir: &Path, (chain, key): (String, String)) {
    std::fs::write(dir.join("pool.key"), key).expect("a folder");
    std::fs::write(dir.join("pool.pem"), chain).expect("a folder");
    config.tls.certificate = Some(dir.join("pool.pem"));
    config.tls.key = Some(dir.join("pool.key"));
}

/// A device's folder.
#[derive(Debug)]
pub struct Device {
    pub dir: TempDir,
}

impl Default for Device {
    fn default() -> Self {
        Self::new()
    }
}

impl Device {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder") }
    }

    pub fn config(&self) -> IdentityConfig {
        IdentityConfig { dir: self.dir.path().to_owned(), ca: Vec::new() }
    }

    pub fn store(&self) -> Store {
        Store::new(self.dir.path())
    }

    pub async fn enrol(&self, pool: &str, token: &str, device: &str) -> Result<(), AskError> {
        let ask = Enrolment {
            pool: pool.to_owned(),
            token: token.to_owned(),
            device: device.to_owned(),
            ca: Vec::new(),
            proxy: None,
            force: false,
        };
        enrol(&self.store(), &ask).await.map(|_| ())
    }

    pub fn identity(&self) -> Identity {
        Identity::open(&self.config()).expect("a good identity")
    }

    pub async fn connect(&self, pool: &Running) -> ExpertServiceClient<Channel> {
        connect(&self.identity(), pool).await.expect("a connection")
    }
}

pub async fn connect(identity: &Identity, pool: &Running) -> Result<ExpertServiceClient<Channel>, DialError> {
    let channel = dial(&pool.url(), &identity.client_config(&[H2]), PATIENCE).await?;
    Ok(ExpertServiceClient::new(channel))
}

/// An authority that is not the pool's.
#[derive(Debug)]
pub struct Elsewhere {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Default for Elsewhere {
    fn default() -> Self {
        Self::new()
    }
}

impl Elsewhere {
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "elsewhere");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Certificate chain and key for a server on this machine, as PEM; good from so many days ahead of now (or, negative,
    /// back), for so many days.
    pub fn server(&self, from_day: i64, days: u64) -> (String, String) {
        self.server_for(&["localhost", "127.0.0.1"], from_day, days)
    }

    /// Makes a server's certificate with other names.
    pub fn server_for(&self, names: &[&str], from_day: i64, days: u64) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.sign(CertificateParams::new(names).expect("names"), from_day, days)
    }

    /// Makes a device's certificate, with its name as a URI.
    pub fn device(&self, name: &str, from_day: i64, days: u64) -> (String, String) {
        let mut params = CertificateParams::default();
        params.subject_alt_names.push(SanType::URI(name.try_into().expect("a URI")));
        self.sign(params, from_day, days)
    }

    fn sign(&self, mut params: CertificateParams, from_day: i64, days: u64) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let second = now().as_second() + from_day * 24 * 3600;
        params.not_before = epoch + Duration::from_secs(second.unsigned_abs());
        params.not_after = params.not_before + Duration::from_secs(days * 24 * 3600);
        let signed = params.signed_by(&key, &self.issuer).expect("a certificate");
        (signed.pem() + &self.pem, key.serialize_pem())
    }
}
