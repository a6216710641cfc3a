//! The TLS client: Mozilla's roots, the operator's CA file, rustls with ring.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio_rustls::TlsConnector;

use super::SettingsError;

/// Builds the connector.
pub(super) fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, SettingsError> {
    Ok(TlsConnector::from(Arc::new(trusting(ca_file)?)))
}

/// Builds a TLS client that trusts Mozilla's roots, and those of the file where one is given.
///
/// # Errors
///
/// When `ca_file` cannot be read, or holds no certificate or a broken one.
pub fn trusting(ca_file: Option<&Path>) -> Result<ClientConfig, SettingsError> {
    let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(path) = ca_file {
        add(&mut roots, path)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(SettingsError::Tls)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), SettingsError> {
    let unreadable = |why| SettingsError::CaFile {
        path: path.to_owned(),
        why,
    };
    let before = roots.len();
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        roots.add(certificate.map_err(unreadable)?).map_err(|why| {
            SettingsError::CaFileCertificate {
                path: path.to_owned(),
                why,
            }
        })?;
    }
    if roots.len() == before {
        return Err(SettingsError::CaFileEmpty {
            path: path.to_owned(),
        });
    }
    Ok(())
}
