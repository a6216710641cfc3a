//! `confirmd serve`: the one place that puts everything together.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{Exit, Source, open};
use crate::background::deliver::{self, Deliver};
use crate::background::{sequence, sweep};
use crate::clock::Clock;
use crate::config::{Config, Tls};
use crate::flow::register::register;
use crate::flow::{Flows, Settings, keyring};
use crate::http::{App, listen, ops, router};
use crate::lifecycle::{self, Ended, Stop, Tasks};
use crate::smtp::{self, Relay};
use crate::store::Pool;
use crate::store::connect::{DaemonLock, connect, lock};
use crate::telemetry::logs;
use crate::telemetry::metrics::Metrics;
use crate::template::Templates;

/// Names the provider of cryptography once, before anything speaks TLS.
pub fn install_crypto() {
    // A second call finds the first one's.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Runs the service until it is told to stop.
pub(super) async fn command(source: &Source, config: Config) -> anyhow::Result<Exit> {
    logs::init(config.log.format, &config.log.filter)?;
    let stop = Stop::new();
    let reloads = lifecycle::signals(&stop)?;
    let service = Service::open(config, Clock::System).await?;
    tracing::info!(
        http = %service.http_address,
        ops = %service.ops_address,
        database = service.flows.pool.system(),
        "confirmd {} serves",
        env!("CARGO_PKG_VERSION")
    );
    lifecycle::notify_ready();
    let reload = |reloads| reload(source, reloads);
    Ok(match service.run(&stop, Some((reloads, &reload))).await {
        Ended::Clean => Exit::Done,
        Ended::Cut => Exit::Done,
        Ended::Failed => Exit::Broke,
    })
}
