//! Errors of the API as RFC 9457 problems; the one place that gives them a status and words.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::flow;

/// What is wrong with a request, or with us. Tells nothing of what was sent.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Fault>,
}

/// One member of a body that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// What is wrong and what to do.
    pub detail: String,
    /// Where: a JSON pointer in a URI fragment (RFC 6901, section 6).
    pub pointer: String,
}

impl Problem {
    fn new(status: StatusCode, name: &str, title: &'static str) -> Self {
        Self {
            kind: format!("urn:confirmd:problem:{name}"),
            title,
            status: status.as_u16(),
            detail: None,
            errors: Vec::new(),
        }
    }

    fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// No key, or none that is in force.
    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "This needs an API key",
        )
        .detail("Send Authorization: Bearer with a key that `confirmd key create` made and nobody revoked.")
    }

    /// The key does not open this.
    pub fn forbidden(scope: &str) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "The API key does not open this",
        )
        .detail(format!("This needs a key with the scope {scope}."))
    }

    /// The body is no JSON, or names a member twice.
    pub fn malformed(why: &serde_json::Error) -> Self {
        // serde_json's own words may repeat what was sent; its position does not.
        let (line, column) = (why.line(), why.column());
        Self::new(
            StatusCode::BAD_REQUEST,
            "malformed-json",
            "The body is not JSON that can be read in one way",
        )
        .detail(match why.is_data() {
            true => {
                format!("A member stands twice in one object, at line {line}, column {column}.")
            }
            false => format!("Reading stopped at line {line}, column {column}."),
        })
    }

    /// The Idempotency-Key is none.
    pub fn bad_idempotency_key() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "bad-idempotency-key",
            "The Idempotency-Key is not usable",
        )
        .detail("Send one header with 1 to 255 visible ASCII characters, with or without double quotes around them.")
    }

    /// The Idempotency-Key was used for something else.
    pub fn idempotency_key_reused() -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency-key-reused",
            "The Idempotency-Key was used for another request",
        )
        .detail("Use a new key for each signup, and the same key only to repeat the same body.")
    }

    /// Members of the body are wrong.
    pub fn invalid(errors: Vec<Fault>) -> Self {
        let mut problem = Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid-request",
            "The request cannot be accepted as it is",
        );
        problem.errors = errors;
        problem
    }

    /// The body is too large.
    pub fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            "The body is too large",
        )
        .detail(format!("At most {} KiB are read.", limit / 1024))
    }

    /// The body did not come whole.
    pub fn incomplete() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "incomplete",
            "The body did not come whole",
        )
    }

    /// There was no answer in time; 408 says that it was the body that did not come.
    pub fn late(status: StatusCode) -> Self {
        match status {
            StatusCode::REQUEST_TIMEOUT => {
                Self::new(status, "timeout", "The body did not come in time")
                    .detail("Send all of it at once.")
            }
            _ => Self::unavailable(),
        }
    }

    /// The body is of another kind.
    pub fn unsupported_media_type() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "The body is not declared as JSON",
        )
        .detail("Send Content-Type: application/json, without Content-Encoding.")
    }

    /// No such route.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is nothing here")
    }

    /// The route has other methods; they stand in Allow.
    pub fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "This cannot be done here with this method",
        )
    }

    /// Later the same may work.
    pub fn unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "The request could not be stored now",
        )
        .detail("Send it again, with the same Idempotency-Key if it had one.")
    }

    /// A defect of ours.
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Something went wrong here",
        )
    }
}

impl From<flow::Error> for Problem {
    fn from(error: flow::Error) -> Self {
        match error.is_unavailable() {
            true => Problem::unavailable(),
            false => Problem::internal(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        match status {
            StatusCode::UNAUTHORIZED => {
                let challenge = HeaderValue::from_static("Bearer realm=\"confirmd\"");
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            }
            _ => {}
        }
        response
    }
}
