//! SIGHUP: other senders, lists, templates and link keys come into force, or those before stay.

use std::fmt::Debug;
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::sync::watch;

use super::serve::templates;
use super::settings::routes;
use super::{Source, open};
use crate::background::deliver::Deliver;
use crate::config::{Config, Smtp};
use crate::flow::register::{refuse_nothing, register};
use crate::flow::{Flows, keyring};
use crate::http::{App, Pages};
use crate::lifecycle;
use crate::message::Composer;

/// What a reload replaces.
#[derive(Clone)]
pub struct Parts {
    pub(super) flows: Arc<Flows>,
    pub(super) deliver: Arc<Deliver>,
    pub(super) app: Arc<App>,
    /// The configuration of the start.
    pub(super) started: Arc<Config>,
}

impl Parts {
    /// Puts other senders, lists, templates and link keys in force; everything else needs a restart.
    ///
    /// # Errors
    /// What cannot come into force; then everything stays as it was.
    pub async fn reload(&self, config: &Config) -> anyhow::Result<()> {
        let flows = &self.flows;
        let templates = templates(config)?;
        let pages = Pages::prepare(templates.clone()).context("templates")?;
        let order = routes(config);
        if let Some(relay) = self.deliver.routes().lacking(&order) {
            bail!("relays.{relay}: a relay that was added needs a restart");
        }
        // Or the next start would refuse what was taken here.
        open::origin(&flows.pool, config).await?;
        let keys = keyring::open_existing(&flows.pool, &self.started.keys.dir).await?;
        let catalog = config.catalog();
        refuse_nothing(&flows.pool, &catalog).await?;
        let in_force = register(&flows.pool, catalog, flows.clock.now()).await?;
        let composer = Composer::new(templates, &self.started.server.public_url);
        self.deliver.set_composer(Arc::new(composer)).await?;
        self.deliver.routes().set_order(order);
        self.app.set_pages(pages);
        if let Some(keys) = keys {
            flows.set_keys(keys);
        }
        flows.set_in_force(in_force);
        let waiting = waiting(&self.started, config);
        if !waiting.is_empty() {
            let sections = waiting.join(", ");
            tracing::warn!(sections, "changed, and needs a restart");
        }
        Ok(())
    }
}

/// Names the sections that differ and that a reload leaves as they were; a secret that differs is not seen.
fn waiting(started: &Config, now: &Config) -> Vec<&'static str> {
    fn told(section: &impl Debug) -> String {
        format!("{section:?}")
    }
    // The order of relays is reloaded.
    let main = |config: &Config| Smtp {
        fallback: Vec::new(),
        ..config.smtp.clone()
    };
    let sections = |config: &Config| {
        [
            ("server", told(&config.server)),
            ("ops", told(&config.ops)),
            ("database", told(&config.database)),
            ("smtp", told(&main(config))),
            ("relays", told(&config.relays)),
            ("delivery", told(&config.delivery)),
            ("keys", told(&config.keys)),
            ("limits", told(&config.limits)),
            ("evidence", told(&config.evidence)),
            ("trail", told(&config.trail)),
            ("log", told(&config.log)),
            ("roles", told(&config.roles)),
            ("idempotency", told(&config.idempotency)),
        ]
    };
    let pairs = sections(started).into_iter().zip(sections(now));
    let differing = pairs.filter(|(before, after)| before != after);
    differing.map(|((name, _), _)| name).collect()
}

/// Reloads at each signal.
pub(super) async fn on_signal(source: Source, parts: Parts, mut reloads: watch::Receiver<()>) {
    while reloads.changed().await.is_ok() {
        lifecycle::notify_reloading();
        let reloaded = match source.load() {
            Ok(config) => parts.reload(&config).await,
            Err(error) => Err(error),
        };
        match reloaded {
            Ok(()) => tracing::info!("reloaded senders, lists, templates and link keys"),
            Err(error) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "not reloaded; what was in force stays"
                );
            }
        }
        lifecycle::notify_ready();
    }
}
