//! Pages behind links. Reading one changes nothing; only a press on a button does.

pub mod confirm;
pub mod decline;
pub mod link;
mod prepared;
pub mod receipt;
pub mod record;
pub mod unsubscribe;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use uuid::Uuid;

pub use self::prepared::Pages;

use self::link::Link;
use super::App;
use crate::domain::list::Sender;
use crate::domain::locale::Locale;
use crate::flow;
use crate::template::{Page, Problem, SenderFace};
use crate::token::Purpose;

/// Renders a page with the headers that every page has.
fn page<P: Page>(app: &App, status: StatusCode, locale: &Locale, content: &P) -> Response {
    app.pages()
        .render(status, locale, content)
        .unwrap_or_else(|error| {
            tracing::error!(error = %error, "a page cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        })
}

fn bad_link(app: &App, headers: &HeaderMap) -> Response {
    problem(app, StatusCode::NOT_FOUND, headers, Problem::BadLink)
}

/// Says that the database did not answer; what was pressed is not in force.
fn failed(app: &App, error: &flow::Error, headers: &HeaderMap) -> Response {
    app.flows.judge(error);
    let status = match error.is_unavailable() {
        true => StatusCode::SERVICE_UNAVAILABLE,
        false => StatusCode::INTERNAL_SERVER_ERROR,
    };
    problem(app, status, headers, Problem::Unavailable)
}

fn problem(app: &App, status: StatusCode, headers: &HeaderMap, problem: Problem) -> Response {
    app.pages().problem(status, &asked_locale(headers), problem)
}

/// Says that there is no answer in time.
pub fn late(app: &App, status: StatusCode, headers: &HeaderMap) -> Response {
    problem(app, status, headers, Problem::Unavailable)
}

/// Says that there is no such page, or, where it looks like one of our links, that this is none.
pub fn not_found(app: &App, uri: &Uri, headers: &HeaderMap) -> Response {
    match Purpose::of_path(uri.path()) {
        Some(_) => bad_link(app, headers),
        None => problem(app, StatusCode::NOT_FOUND, headers, Problem::NotFound),
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
