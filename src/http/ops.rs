//! The operator's own listener: is it alive, is it ready, what are its numbers.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::time::timeout;

use crate::telemetry::metrics::{CONTENT_TYPE, Metrics};

/// How long the answer to "are you ready?" may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Builds `/livez`, `/readyz` and `/metrics`.
///
/// `ready` says why the process should get no requests, or what else somebody should look at, in words without addresses; it
/// is asked at each probe.
pub fn router<F, R>(metrics: Arc<Metrics>, ready: F) -> Router
where
    F: Fn() -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Option<&'static str>, String>> + Send + 'static,
{
    let readiness = move || async move {
        let reason = match timeout(PATIENCE, ready()).await {
            Ok(Ok(None)) => return plain(StatusCode::OK, "ready\n".to_owned()),
            Ok(Ok(Some(but))) => return plain(StatusCode::OK, format!("ready\n{but}\n")),
            Ok(Err(reason)) => reason,
            Err(_) => format!("no answer in {} seconds", PATIENCE.as_secs()),
        };
        plain(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n"))
    };
    let numbers = move || async move { ([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.encode()) };
    Router::new()
        .route(
            "/livez",
            get(async || plain(StatusCode::OK, "alive\n".to_owned())),
        )
        .route("/readyz", get(readiness))
        .route("/metrics", get(numbers))
}

fn plain(status: StatusCode, text: String) -> impl IntoResponse + use<> {
    (status, [(header::CACHE_CONTROL, "no-store")], text)
}
