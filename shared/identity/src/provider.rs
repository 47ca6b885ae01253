//! The cryptography that every connection and certificate is made with.

use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;

/// Gives the provider of the whole process: ring's.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())))
}
