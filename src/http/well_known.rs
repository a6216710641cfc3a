//! `GET /.well-known/confirmd`: what somebody needs who checks the trail without taking our word (RFC 8615).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::App;
use super::problem::Problem;
use crate::flow::publish::published;

/// Returns the public keys of this epoch and of all before, and the newest checkpoint.
///
/// # Errors
/// 503 while the database cannot be read.
pub async fn show(State(app): State<Arc<App>>) -> Result<Json<Value>, Problem> {
    let published = published(&app.flows).await?;
    let keys = published.keys.iter().map(|key| {
        json!({
            "id": key.id,
            "state": if key.signs { "sign" } else { "verify" },
            "epoch": key.epoch,
            "vkey": key.vkey,
        })
    });
    Ok(Json(json!({
        "origin": published.origin,
        "epoch": published.epoch,
        "keys": keys.collect::<Vec<_>>(),
        "checkpoint": published.checkpoint,
    })))
}
