//! Bodies: read to a bound, and no further.

use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

/// The most that is read of a JSON body.
pub const JSON: usize = 16 * 1024;
/// The most that is looked at of a form.
pub const FORM: usize = 8 * 1024;
/// What is read past a form and thrown away, so that the sender of a large one sees our answer.
const DISCARDED: usize = 2 * 1024 * 1024;
/// How long a form may take; then what came of it counts.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// Longer than the bound.
    TooLarge,
    /// The connection broke before its end.
    Incomplete,
}

/// Reads a body whole.
///
/// # Errors
/// When it is longer than `limit` bytes, or ends too early.
pub async fn whole(mut body: Body, limit: usize) -> Result<Vec<u8>, Unread> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Unread::Incomplete)?;
        if let Some(data) = frame.data_ref() {
            if bytes.len() + data.len() > limit {
                return Err(Unread::TooLarge);
            }
            bytes.extend_from_slice(data);
        }
    }
    Ok(bytes)
}

/// What came of a form.
#[derive(Clone, Debug)]
pub struct Form {
    /// Its first bytes.
    pub bytes: Vec<u8>,
    /// Whether they are all of it.
    pub whole: bool,
}

/// Reads what there is of a form, and never fails: the token in its URL is the authority, not what it says.
pub async fn lenient(mut body: Body) -> Form {
    let (mut bytes, mut read) = (Vec::new(), 0);
    let end = Instant::now() + PATIENCE;
    let whole = loop {
        match timeout_at(end, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    read += data.len();
                    let room = FORM.saturating_sub(bytes.len()).min(data.len());
                    bytes.extend_from_slice(&data[..room]);
                }
            }
            Ok(None) => break read == bytes.len(),
            Ok(Some(Err(_))) | Err(_) => break false,
        }
        if read > DISCARDED {
            break false;
        }
    };
    Form { bytes, whole }
}

/// Returns the pairs of a form, if these bytes are one (`application/x-www-form-urlencoded`).
pub fn pairs(bytes: &[u8]) -> Vec<(String, String)> {
    url::form_urlencoded::parse(bytes).into_owned().collect()
}
