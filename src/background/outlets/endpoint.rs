//! An HTTPS endpoint to which checkpoints are posted. Redirects are not followed; what it answers is not read.

use std::error::Error;
use std::io;
use std::path::Path;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use url::Url;

use super::Failure;
use crate::smtp::{SettingsError, trusting};

/// One address.
pub(super) struct Endpoint {
    url: Url,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Endpoint {
    /// Takes an address that configuration found to be https, or on this machine.
    ///
    /// # Errors
    /// When the CA file holds no certificates.
    pub(super) fn new(url: &Url, ca_file: Option<&Path>) -> Result<Self, SettingsError> {
        // The scheme is the one that configuration let pass: nothing leads elsewhere.
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(trusting(ca_file)?)
            .https_or_http()
            .enable_http1()
            .build();
        // A checkpoint a minute is worth a connection, and one that was kept may be dead.
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        Ok(Self {
            url: url.clone(),
            client,
        })
    }

    /// Posts a note.
    pub(super) async fn post(&self, note: &str) -> Result<(), Failure> {
        let uri: Uri = self.url.as_str().parse().map_err(|_| Failure::NoWay)?;
        let request = Request::post(uri)
            .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
            .header(header::USER_AGENT, "confirmd")
            .body(Full::from(note.to_owned()));
        let request = request.map_err(|_| Failure::NoWay)?;
        let answer = self.client.request(request).await;
        let status = answer.map_err(|error| failure(&error))?.status();
        match status.is_success() {
            true => Ok(()),
            false => Err(Failure::Status(status.as_u16())),
        }
    }
}

/// Finds the reason in the words of the libraries, which may repeat what the other end said: only kinds are taken over.
fn failure(error: &hyper_util::client::legacy::Error) -> Failure {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(now) = cause {
        if now.is::<rustls::Error>() {
            return Failure::Tls;
        }
        cause = match now.downcast_ref::<io::Error>() {
            // An error in an I/O error is not among its sources.
            Some(io) => match io.get_ref() {
                Some(inner) => Some(inner),
                None => return Failure::Unreachable(io.kind()),
            },
            None => now.source(),
        };
    }
    match error.is_connect() {
        true => Failure::NoWay,
        false => Failure::NoHttp,
    }
}
