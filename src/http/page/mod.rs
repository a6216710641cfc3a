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
    let locale = asked_locale(app, headers);
    app.pages().problem(status, &locale, problem)
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

/// The language that the browser likes best among those of the pages, or English; only pages that know no signup are
/// written in it.
fn asked_locale(app: &App, headers: &HeaderMap) -> Locale {
    let accepted = headers.get(header::ACCEPT_LANGUAGE);
    let accepted = accepted.and_then(|value| value.to_str().ok());
    let preferred = accepted.and_then(|accepted| {
        let pages = app.pages();
        preferred(accepted, |tag| pages.speaks(tag))
    });
    preferred.unwrap_or_else(Locale::english)
}

/// Reads Accept-Language (RFC 9110, section 12.5.4): the greatest weight wins, and the first of equals.
///
/// A weight of 0 says "not this one"; `*` names none.
fn preferred(accepted: &str, speaks: impl Fn(&Locale) -> bool) -> Option<Locale> {
    let (mut best, mut greatest) = (None, 0.0);
    for range in accepted.split(',') {
        let (tag, weight) = range.split_once(';').unwrap_or((range, "q=1"));
        let weight = weight.trim().strip_prefix(['q', 'Q']);
        let weight = weight.and_then(|weight| weight.strip_prefix('=')?.parse::<f32>().ok());
        if let (Ok(tag), Some(weight)) = (tag.trim().parse(), weight)
            && weight > greatest
            && speaks(&tag)
        {
            (best, greatest) = (Some(tag), weight);
        }
    }
    best
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_with_the_greatest_weight_is_spoken() {
        let speaks = |tag: &Locale| ["en", "nl"].contains(&tag.base().as_str());
        let spoken = |accepted| preferred(accepted, speaks).map_or("none".to_owned(), String::from);
        for (accepted, wanted) in [
            ("", "none"),
            ("nl", "nl"),
            ("nl-be, en", "nl-BE"),
            ("en;q=0.1, nl;q=0.9", "nl"),
            ("en ; Q=0.5 , nl", "nl"),
            ("en, nl;q=1.0", "en"),
            ("fr-BE, fr;q=0.9, nl;q=0.8, en;q=0.1", "nl"),
            ("nl;q=0, en;q=0.001", "en"),
            ("nl;q=0, *", "none"),
            ("*, nl;q=0.5", "nl"),
            ("nl;q=NaN, nl;q=, nl;level=1, !!, en;q=0.2", "en"),
        ] {
            assert_eq!(spoken(accepted), wanted, "{accepted}");
        }
    }
}
