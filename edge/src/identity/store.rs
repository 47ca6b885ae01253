//! The files of a device's identity. Key and certificate are two files; the key is written first and stays the same
//! across renewals, so that no power cut can part them.

use std::path::{Path, PathBuf};

use millgate_shared::identity::held::Chain;
use millgate_shared::identity::pem;
use millgate_shared::{bounded, files};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::IdentityError;

/// A folder with them.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

/// Where the device was enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub tenant: String,
    pub device: String,
    /// Where it is renewed.
    pub pool: String,
}

impl Store {
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The device's private key.
    pub fn key(&self) -> PathBuf {
        self.dir.join("device.key")
    }

    /// Path of the device's certificate, followed in the file by those that lead to the authority.
    pub fn certificate(&self) -> PathBuf {
        self.dir.join("device.pem")
    }

    /// By whom the pool is known.
    pub fn authorities_file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    fn record_file(&self) -> PathBuf {
        self.dir.join("enrolment.json")
    }

    /// The last known time.
    pub fn clock(&self) -> PathBuf {
        self.dir.join("clock")
    }

    /// `None`: the device is not enrolled.
    pub fn chain(&self) -> Result<Option<Chain>, IdentityError> {
        match Chain::read(&self.certificate(), &self.key()) {
            Ok(chain) => Ok(Some(chain)),
            Err(_) if !self.certificate().exists() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// None if the device is not enrolled.
    pub fn authorities(&self) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
        match pem::certificates(&self.authorities_file()) {
            Err(error) if error.is_absent() => Ok(Vec::new()),
            read => Ok(read?),
        }
    }

    pub fn record(&self) -> Result<Option<Record>, IdentityError> {
        let path = self.record_file();
        let text = match bounded::read(&path, bounded::RECORD) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(IdentityError::Io { path, source }),
        };
        let record = serde_json::from_slice(&text);
        record.map(Some).map_err(|error| IdentityError::Record { path, reason: error.to_string() })
    }

    pub fn write_record(&self, record: &Record) -> Result<(), IdentityError> {
        let path = self.record_file();
        let text = serde_json::to_vec_pretty(record);
        let text =
            text.map_err(|error| IdentityError::Record { path: path.clone(), reason: error.to_string() })?;
        self.write(path, &text, files::PUBLIC)
    }

    pub fn write_key(&self, pem: &str) -> Result<(), IdentityError> {
        self.write(self.key(), pem.as_bytes(), files::PRIVATE)
    }

    pub fn write(&self, path: PathBuf, content: &[u8], mode: u32) -> Result<(), IdentityError> {
        files::replace(&path, content, mode).map_err(|source| IdentityError::Io { path, source })
    }
}
