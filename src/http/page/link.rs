//! Links at the door: their tokens are read before anything else is looked at.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::extract::Request;
use axum::http::Method;
use axum::http::request::Parts;
use axum::response::Response;

use super::bad_link;
use crate::http::App;
use crate::token::{Claims, Purpose};

/// A link of ours, as an extension of the request that brings it.
#[derive(Clone)]
pub struct Link {
    /// What the token says, for what the path says.
    pub claims: Claims,
    /// The token, exactly as the path spells it: percent-encoded it is another text, and none of ours.
    pub token: String,
}

/// Returns the route on which links of a purpose are answered.
pub const fn route(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Confirm => "/c/{token}",
        Purpose::Decline => "/d/{token}",
        Purpose::Unsubscribe => "/u/{token}",
        Purpose::Receipt => "/r/{token}",
    }
}

/// Reads the token of a link. One that is not ours is answered here, with its route, at the cost of the check.
pub fn check(app: &App, request: &mut Request) -> Option<(&'static str, Response)> {
    let (purpose, rest) = Purpose::of_path(request.uri().path())?;
    let token = rest.split('/').next().unwrap_or_default();
    if let Ok(claims) = app.flows.keys().links.verify(purpose, token) {
        let token = token.to_owned();
        request.extensions_mut().insert(Link { claims, token });
        return None;
    }
    // Whatever else is asked of such a path is told first that there is no such method or page.
    let is_route = !rest.is_empty() && token.len() == rest.len();
    let has_method = match *request.method() {
        Method::GET | Method::HEAD => true,
        Method::POST => purpose != Purpose::Receipt,
        _ => false,
    };
    (is_route && has_method).then(|| (route(purpose), bad_link(app, request.headers())))
}

impl FromRequestParts<Arc<App>> for Link {
    type Rejection = Response;

    /// Takes what the door left; the answer says no more than that this is no link of ours.
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Response> {
        let link = parts.extensions.remove();
        link.ok_or_else(|| bad_link(app, &parts.headers))
    }
}
