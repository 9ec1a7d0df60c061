//! Who does the cryptography.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The one provider of the process.
pub fn provider() -> Arc<CryptoProvider> {
    if let Some(known) = CryptoProvider::get_default() {
        return Arc::clone(known);
    }
    // Who loses a race finds the winner's, which is the same. The client of Redis takes no other way.
    let _ = rustls::crypto::ring::default_provider().install_default();
    CryptoProvider::get_default().map_or_else(|| rustls::crypto::ring::default_provider().into(), Arc::clone)
}
