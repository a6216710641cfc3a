//! `/d/{token}`: the no of a confirmation mail, and its List-Unsubscribe.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::{Link, done, face, failed, is_one_click, page};
use crate::domain::id::SignupId;
use crate::domain::list::ListId;
use crate::domain::signup::{Decline, ListState};
use crate::flow::decline::{Press, Wish};
use crate::flow::view::{self, SignupView};
use crate::http::App;
use crate::http::body::{lenient, pairs};
use crate::template::{DeclinePage, Declined, DeclinedPage, Ended, EndedPage, Hold};
use crate::token::Purpose;

/// Shows what a no would do. Changes nothing.
pub async fn show(State(app): State<Arc<App>>, link: Link, headers: HeaderMap) -> Response {
    let view = match view::signup(&app.flows, SignupId(link.claims.subject)).await {
        Ok(Some(view)) => view,
        Ok(None) => return unknown(&app, &headers),
        Err(error) => return failed(&app, &error, &headers),
    };
    let subscribed = titles(&view, |list| list.refuse.leaves);
    let asked = |list: &view::ListView| list.refuse.declines && !list.refuse.leaves;
    let open = titles(&view, |list| asked(list) && !list.closed);
    let closed = titles(&view, |list| asked(list) && list.closed);
    let Some(first) = view.lists.first() else {
        return unknown(&app, &headers);
    };
    if open.is_empty() && closed.is_empty() && subscribed.is_empty() {
        return result(
            &app,
            hold_action(&app, &link),
            &view,
            already(&view),
            &[],
            &[],
        );
    }
    let content = DeclinePage {
        sender: face(&first.facts.sender),
        open,
        closed,
        subscribed,
        hold: app.flows.settings.limits.hold.as_secs(),
        action: action(&link),
    };
    page(&app, StatusCode::OK, &view.signup.locale, &content)
}

/// Takes the no, at once: any body, or none, is one. Our own page sends `reason=no`, `reason=not_me`, `hold=lift` or
/// `hold=all`; everything else is the mail program's own press.
pub async fn press(
    State(app): State<Arc<App>>,
    link: Link,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let wish = wish(&lenient(body).await.bytes);
    let leaves = matches!(wish, Wish::Refuse(_));
    if !leaves && hold_action(&app, &link).is_none() {
        return show(State(app), link, headers).await;
    }
    let press = Press {
        signup: SignupId(link.claims.subject),
        wish,
    };
    let outcome = match app.declines.pass(press).await {
        Ok(outcome) => outcome,
        Err(error) => return failed(&app, &error, &headers),
    };
    if wish == Wish::Refuse(Decline::OneClick) {
        return done();
    }
    let Some(view) = outcome.view else {
        return unknown(&app, &headers);
    };
    let said = match wish {
        Wish::LiftHold if outcome.too_often => Declined::TooOften,
        Wish::LiftHold => Declined::Lifted,
        Wish::HoldEverywhere => Declined::Extended,
        Wish::Refuse(_) if !outcome.declined.is_empty() || !outcome.unsubscribed.is_empty() => {
            Declined::Done
        }
        Wish::Refuse(_) => already(&view),
    };
    let (declined, left) = (&outcome.declined, &outcome.unsubscribed);
    let action = hold_action(&app, &link);
    result(&app, action, &view, said, declined, left)
}

fn action(link: &Link) -> String {
    format!("{}{}", Purpose::Decline.path(), link.token)
}

/// Where a hold can be changed; nowhere by a link that whoever has a compromised key could have made.
fn hold_action(app: &App, link: &Link) -> Option<String> {
    let only_leaves = app.flows.keys().links.only_leave(link.claims.key);
    (!only_leaves).then(|| action(link))
}

fn wish(body: &[u8]) -> Wish {
    if is_one_click(body) {
        return Wish::Refuse(Decline::OneClick);
    }
    for (name, value) in pairs(body) {
        match (name.as_str(), value.as_str()) {
            ("hold", "lift") => return Wish::LiftHold,
            ("hold", "all") => return Wish::HoldEverywhere,
            ("reason", "no") => return Wish::Refuse(Decline::No),
            ("reason", "not_me") => return Wish::Refuse(Decline::NotMe),
            _ => {}
        }
    }
    Wish::Refuse(Decline::OneClick)
}

fn already(view: &SignupView) -> Declined {
    match view.lists.iter().any(stays_declined) {
        true => Declined::Already,
        false => Declined::Nothing,
    }
}

/// Who said no here and yes to a later mail is subscribed.
fn stays_declined(list: &view::ListView) -> bool {
    list.row.state == ListState::Declined && !list.is_subscribed()
}

fn titles(view: &SignupView, which: impl Fn(&view::ListView) -> bool) -> Vec<String> {
    let lists = view.lists.iter().filter(|list| which(list));
    lists
        .map(|list| list.facts.list.title_in(&view.signup.locale).to_owned())
        .collect()
}

/// Says what was done, and what is held; `action` is where the buttons of a hold go.
pub(super) fn result(
    app: &App,
    action: Option<String>,
    view: &SignupView,
    outcome: Declined,
    declined: &[ListId],
    left: &[ListId],
) -> Response {
    let Some(first) = view.lists.first() else {
        return page(app, StatusCode::OK, &view.signup.locale, &gone());
    };
    let may_say = !matches!(outcome, Declined::Lifted) && view.held_until.is_none();
    let refused = view.lists.iter().any(|list| list.row.state.is_refused());
    let left_here = |list: &view::ListView| left.contains(&list.row.list);
    let declined = match outcome {
        // Whoever left is told that, which says more.
        Declined::Done => titles(view, |list| {
            declined.contains(&list.row.list) && !left_here(list)
        }),
        _ => titles(view, stays_declined),
    };
    let content = DeclinedPage {
        sender: face(&first.facts.sender),
        outcome,
        declined,
        unsubscribed: titles(view, left_here),
        hold: view.held_until.map(|until| Hold {
            until,
            everywhere: view.held_everywhere,
        }),
        not_me: (may_say && refused).then(|| app.flows.settings.limits.hold.as_secs()),
        action,
        signup_url: view.signup_url(),
    };
    page(app, StatusCode::OK, &view.signup.locale, &content)
}

/// The signup is gone: there is nothing left to refuse.
fn unknown(app: &App, headers: &HeaderMap) -> Response {
    page(
        app,
        StatusCode::OK,
        &super::asked_locale(app, headers),
        &gone(),
    )
}

fn gone() -> EndedPage {
    EndedPage {
        sender: None,
        reason: Ended::Unknown,
        titles: Vec::new(),
        other: Vec::new(),
        again_action: None,
        signup_url: None,
    }
}
