//! Certificates and keys out of PEM files. Every error names the file and says what was looked for.

use std::path::{Path, PathBuf};

use millgate_base::bounded;
use millgate_base::text_file::{self, NotText};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Reason why a file gives no certificate or key.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: {reason}", path.display())]
    Content { path: PathBuf, reason: String },
}

impl PemError {
    /// True if the file is not there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, PemError> {
    let bytes = bounded::read(path, bounded::TEXT)
        .map_err(|source| PemError::Read { path: path.to_owned(), source })?;
    match text_file::decode(&bytes) {
        Ok(text) => Ok(text.as_bytes().to_vec()),
        Err(error @ NotText::OtherUtf(_)) => {
            Err(PemError::Content { path: path.to_owned(), reason: error.to_string() })
        }
        // Remarks beside the blocks may be written in anything.
        Err(_) => Ok(bytes),
    }
}

/// Reads all certificates of a file, in its order; at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    certificates_in(path, &read(path)?)
}

/// Reads the certificates of `text`; `path` only names it in errors.
fn certificates_in(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let refuse = |reason: String| PemError::Content { path: path.to_owned(), reason };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let found = found.map_err(|error| refuse(format!("is damaged: {error}")))?;
    match found.is_empty() {
        true => Err(refuse("holds no certificate (a block `-----BEGIN CERTIFICATE-----`)".to_owned())),
        false => Ok(found),
    }
}

/// Reads the private key of a file.
pub fn key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let reason = match error {
            rustls::pki_types::pem::Error::NoItemsFound => {
                "holds no private key (a block `-----BEGIN PRIVATE KEY-----`)".to_owned()
            }
            error => format!("is damaged: {error}"),
        };
        PemError::Content { path: path.to_owned(), reason }
    })
}

/// Writes certificates as the text of a PEM file.
pub fn write<'a>(certificates: impl IntoIterator<Item = &'a [u8]>) -> String {
    use base64::Engine as _;
    let mut text = String::new();
    for der in certificates {
        let encoded = base64::engine::general_purpose::STANDARD.encode(der);
        text += "-----BEGIN CERTIFICATE-----\n";
        for line in encoded.as_bytes().chunks(64) {
            text += &String::from_utf8_lossy(line);
            text.push('\n');
        }
        text += "-----END CERTIFICATE-----\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pool.pem");
        assert!(certificates(&file).unwrap_err().is_absent());
        for (text, words) in [
            ("", "holds no certificate"),
            ("hello", "holds no certificate"),
            ("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", "damaged"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = certificates(&file).unwrap_err().to_string();
            assert!(error.contains("pool.pem") && error.contains(words), "{text}: {error}");
            let error = key(&file).unwrap_err().to_string();
            assert!(error.contains("pool.pem"), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let signed = rcgen::generate_simple_self_signed(vec!["a".to_owned()]).unwrap();
        let text = write([&signed.cert.der()[..], &signed.cert.der()[..]]);
        let read = certificates_in(Path::new("x"), text.as_bytes()).unwrap();
        assert_eq!(read, [signed.cert.der().clone(), signed.cert.der().clone()]);
        let (dir, lines) = (tempfile::tempdir().unwrap(), text.replace('\n', "\r\n"));
        let file = dir.path().join("pool.pem");
        let marked = [b"\xef\xbb\xbf", lines.as_bytes()].concat();
        let remarked = [b"Subject: M\xfcller\r\n", lines.as_bytes()].concat();
        for bytes in [marked, remarked] {
            std::fs::write(&file, bytes).unwrap();
            assert_eq!(certificates(&file).unwrap(), read);
        }
        std::fs::write(&file, text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()).unwrap();
        let error = certificates(&file).unwrap_err().to_string();
        assert!(error.contains("pool.pem: is UTF-16"), "{error}");
    }
}
