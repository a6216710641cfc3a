//! Pages behind links. Reading one changes nothing; only a press on a button does.

pub mod confirm;
pub mod decline;
pub mod receipt;
pub mod record;
pub mod unsubscribe;

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use uuid::Uuid;

use super::App;
use crate::domain::list::Sender;
use crate::domain::locale::Locale;
use crate::flow;
use crate::template::{Page, Problem, ProblemPage, SenderFace};
use crate::token::{Claims, Purpose};

/// The token of a link, exactly as its path spells it: percent-encoded it is another text, and none of ours.
pub struct Token(String);

impl<S: Send + Sync> FromRequestParts<S> for Token {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let token = parts.uri.path().split('/').nth(2);
        Ok(Self(token.unwrap_or_default().to_owned()))
    }
}

/// Renders a page with the headers that every page has.
fn page<P: Page>(app: &App, status: StatusCode, locale: &Locale, content: &P) -> Response {
    let templates = app.templates();
    let html = match templates.page(locale, content) {
        Ok(html) => html,
        Err(error) => {
            tracing::error!(error = %error, "a page cannot be rendered");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let mut response = (status, Html(html)).into_response();
    let policy = format!(
        "default-src 'none'; style-src '{}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        templates.style_hash()
    );
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    let language = templates.language(locale).as_str();
    if let Ok(language) = HeaderValue::from_str(language) {
        headers.insert(header::CONTENT_LANGUAGE, language);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}

/// Reads the token of a link, before anything else is looked at.
///
/// # Errors
/// The page that says no more than that this is no link of ours.
fn claims(
    app: &App,
    purpose: Purpose,
    token: &str,
    headers: &HeaderMap,
) -> Result<Claims, Box<Response>> {
    let claims = app.flows.keys().links.verify(purpose, token);
    claims.map_err(|_| Box::new(bad_link(app, headers)))
}

fn bad_link(app: &App, headers: &HeaderMap) -> Response {
    problem(app, StatusCode::NOT_FOUND, headers, Problem::BadLink)
}

/// Says that the database did not answer; what was pressed is not in force.
fn failed(app: &App, error: &flow::Error, headers: &HeaderMap) -> Response {
    let status = match error.is_unavailable() {
        true => StatusCode::SERVICE_UNAVAILABLE,
        false => StatusCode::INTERNAL_SERVER_ERROR,
    };
    problem(app, status, headers, Problem::Unavailable)
}

fn problem(app: &App, status: StatusCode, headers: &HeaderMap, problem: Problem) -> Response {
    let content = ProblemPage {
        sender: None,
        problem,
    };
    page(app, status, &asked_locale(headers), &content)
}

/// Says that there is no such page, or, where it looks like one of our links, that this is none.
pub fn not_found(app: &App, uri: &Uri, headers: &HeaderMap) -> Response {
    let is_link = |purpose: &Purpose| uri.path().starts_with(purpose.path());
    match Purpose::ALL.iter().any(is_link) {
        true => bad_link(app, headers),
        false => problem(app, StatusCode::NOT_FOUND, headers, Problem::NotFound),
    }
}

/// Says that a page has other methods; they stand in Allow.
pub async fn method_not_allowed(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    problem(
        &app,
        StatusCode::METHOD_NOT_ALLOWED,
        &headers,
        Problem::Method,
    )
}

/// The first language that the browser asks for; only pages that know no signup are written in it.
fn asked_locale(headers: &HeaderMap) -> Locale {
    headers
        .get(header::ACCEPT_LANGUAGE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split([',', ';']).next())
        .and_then(|tag| tag.trim().parse().ok())
        .unwrap_or_else(Locale::english)
}

fn face(sender: &Sender) -> SenderFace {
    SenderFace::from(sender)
}

/// Makes a link of a sender that never expires.
fn link(app: &App, sender: &Sender, purpose: Purpose, subject: Uuid) -> String {
    let links = &app.flows.keys().links;
    let token = links.sign(links.signing(), purpose, subject, None);
    format!(
        "{}{}{}",
        app.origin(sender),
        purpose.path(),
        token.unwrap_or_default()
    )
}

/// Tells whether a body is the mail program's own press (RFC 8058, section 3.1), in whichever encoding.
fn is_one_click(body: &[u8]) -> bool {
    const NAME: &[u8] = b"List-Unsubscribe";
    body.windows(NAME.len())
        .any(|part| part.eq_ignore_ascii_case(NAME))
}

/// The answer to a mail program: nobody reads it.
fn done() -> Response {
    (StatusCode::OK, "Done.\n").into_response()
}
