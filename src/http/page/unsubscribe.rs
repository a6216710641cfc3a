//! `/u/{token}`: leave one list, with one press on the page or by the mail program's own button (RFC 8058).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::{Link, asked_locale, done, face, failed, page};
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::{Move, Step, step};
use crate::flow::unsubscribe::{How, Outcome, Press};
use crate::flow::view::{self, SubscriptionView};
use crate::http::App;
use crate::http::body::{lenient, pairs};
use crate::template::{UnsubscribePage, Unsubscribed, UnsubscribedPage};
use crate::token::Purpose;

/// Shows what would be left. Changes nothing.
pub async fn show(
    State(app): State<Arc<App>>,
    Link { claims, token }: Link,
    headers: HeaderMap,
) -> Response {
    let id = SubscriptionId(claims.subject);
    match view::subscription(&app.flows, id).await {
        Ok(Some(view)) => {
            let state = Some(view.subscription.state);
            if step(state, Move::Unsubscribe) == Step::Same {
                let since = Some(view.subscription.since);
                return left(&app, &view, Unsubscribed::Already { since });
            }
            let locale = &view.subscription.locale;
            let content = UnsubscribePage {
                sender: face(&view.facts.sender),
                title: view.facts.list.title_in(locale).to_owned(),
                action: format!("{}{token}", Purpose::Unsubscribe.path()),
            };
            page(&app, StatusCode::OK, locale, &content)
        }
        Ok(None) => gone(&app, StatusCode::OK, &headers),
        Err(error) => failed(&app, &error, &headers),
    }
}

/// Unsubscribes, in force before the answer: any body, or none, will do. Our own page sends `by=page`.
pub async fn press(
    State(app): State<Arc<App>>,
    Link { claims, .. }: Link,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let by_page = |(name, value): &(String, String)| name == "by" && value == "page";
    let how = match pairs(&lenient(body).await.bytes).iter().any(by_page) {
        true => How::Page,
        false => How::OneClick,
    };
    let press = Press {
        subscription: SubscriptionId(claims.subject),
        how,
    };
    match (app.unsubscribes.pass(press).await, how) {
        (Err(error), _) => failed(&app, &error, &headers),
        (Ok(_), How::OneClick) => done(),
        (Ok(Outcome::Left { view, goodbye }), _) => {
            left(&app, &view, Unsubscribed::Done { goodbye })
        }
        (Ok(Outcome::Already { view, .. }), _) => {
            let since = Some(view.subscription.since);
            left(&app, &view, Unsubscribed::Already { since })
        }
        (Ok(Outcome::Unknown), _) => gone(&app, StatusCode::OK, &headers),
    }
}

fn left(app: &App, view: &SubscriptionView, outcome: Unsubscribed) -> Response {
    let locale = &view.subscription.locale;
    let signup_url = view.facts.list.signup_url.clone();
    let content = UnsubscribedPage {
        sender: Some(face(&view.facts.sender)),
        title: view.facts.list.title_in(locale).to_owned(),
        outcome,
        by_address_url: None,
        signup_url: signup_url.filter(|_| !view.closed),
    };
    page(app, StatusCode::OK, locale, &content)
}

/// The record was erased, or never was.
pub(super) fn gone(app: &App, status: StatusCode, headers: &HeaderMap) -> Response {
    let content = UnsubscribedPage {
        sender: None,
        title: String::new(),
        outcome: Unsubscribed::Gone,
        by_address_url: None,
        signup_url: None,
    };
    page(app, status, &asked_locale(app, headers), &content)
}
