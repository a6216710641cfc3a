//! The JSON API for signup backends.

pub mod lists;
mod object;
pub mod record;
pub mod signups;
mod strict;

use std::sync::Arc;

use axum::http::{HeaderMap, header};

use super::App;
use super::problem::Problem;
use crate::flow::api_key::ApiKey;
use crate::flow::api_key::Scope;

/// Returns the key of a request, if it opens this.
async fn authorize(app: &App, headers: &HeaderMap, scope: Scope) -> Result<Arc<ApiKey>, Problem> {
    let presented = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, key)| key.trim())
        .ok_or_else(Problem::unauthorized)?;
    let key = app.keys.find(&app.flows, presented).await?;
    let key = key.ok_or_else(Problem::unauthorized)?;
    match key.scopes.iter().any(|s| s == scope.as_str()) {
        true => Ok(key),
        false => Err(Problem::forbidden(scope.as_str())),
    }
}
