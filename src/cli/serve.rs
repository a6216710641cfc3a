//! `confirmd serve`: the one place that puts everything together.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpListener;

pub use super::reload::Parts;
use super::reload::on_signal;
use super::settings::{outlets, relays, routes, settings};
use super::{Exit, Source, open};
use crate::background::copies::Copies;
use crate::background::deliver::route::Routes;
use crate::background::deliver::{self, Deliver};
use crate::background::outlets::Outlets;
use crate::background::sequence::Sequencer;
use crate::background::{fold, gauge, space, sweep, wake};
use crate::clock::Clock;
use crate::config::{Config, Roles};
use crate::flow::quarantine::free_all;
use crate::flow::register::register;
use crate::flow::space::Space;
use crate::flow::{Flows, keyring};
use crate::http::{App, Pages, listen, ops, service};
use crate::lifecycle::{self, Ended, Stop, Tasks};
use crate::message::Composer;
use crate::store;
use crate::store::connect::{ConnectError, DaemonLock, Location, connect, lock};
use crate::store::disk::Disk;
use crate::store::reserve::Reserve;
use crate::store::wake::Waits;
use crate::telemetry::logs;
use crate::telemetry::metrics::Metrics;
use crate::template::Templates;

/// Names the provider of cryptography once, before anything speaks TLS.
pub fn install_crypto() {
    // A second call finds the first one's.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Runs the service until it is told to stop.
pub(super) async fn command(source: Source, config: Config) -> anyhow::Result<Exit> {
    logs::init(config.log.format, &config.log.filter)?;
    let stop = Stop::new();
    let reloads = lifecycle::signals(&stop)?;
    let Some(service) = stop.or_soft(Service::open(&config, Clock::System)).await else {
        tracing::info!("stopped before it served");
        return Ok(Exit::Done);
    };
    let service = service?;
    tracing::info!(
        http = %service.http_address()?,
        ops = %service.ops_address()?,
        database = service.flows.pool.system(),
        "confirmd {} serves",
        env!("CARGO_PKG_VERSION")
    );
    tokio::spawn(on_signal(source, service.parts(), reloads));
    tokio::spawn(lifecycle::watchdog(stop.clone()));
    lifecycle::notify_ready();
    let ended = service.run(&stop).await;
    Ok(match ended {
        Ended::Clean | Ended::Cut => Exit::Done,
        Ended::Failed => Exit::Broke,
    })
}

/// The service, bound and ready to run.
pub struct Service {
    /// What every flow needs.
    pub flows: Arc<Flows>,
    /// The role that sends mails.
    pub deliver: Arc<Deliver>,
    /// The role that gives checkpoints to places outside.
    pub outlets: Arc<Outlets>,
    app: Arc<App>,
    started: Arc<Config>,
    http: TcpListener,
    ops: TcpListener,
    limits: listen::Limits,
    roles: Roles,
    copies: Option<Copies>,
    drain: Duration,
    _lock: DaemonLock,
}

/// The sockets of a service.
pub struct Listeners {
    /// For the API and the pages.
    pub http: TcpListener,
    /// For the operator.
    pub ops: TcpListener,
}

impl Service {
    /// Opens everything that the configuration names, in the order in which things depend on each other.
    ///
    /// # Errors
    /// The first thing that cannot be used, and what to do about it.
    pub async fn open(config: &Config, clock: Clock) -> anyhow::Result<Self> {
        Self::open_with(config, clock, None).await
    }

    /// Does the same on sockets that are bound already, for one who must know their ports before.
    ///
    /// # Errors
    /// The first thing that cannot be used, and what to do about it.
    pub async fn open_on(config: &Config, clock: Clock, on: Listeners) -> anyhow::Result<Self> {
        Self::open_with(config, clock, Some(on)).await
    }

    async fn open_with(
        config: &Config,
        clock: Clock,
        bound: Option<Listeners>,
    ) -> anyhow::Result<Self> {
        let templates = templates(config)?;
        let pages = Pages::prepare(templates.clone()).context("templates")?;
        let location = open::location(config)?;
        let lock = lock(&location)?;
        let now = clock.now();
        let metrics = Arc::new(Metrics::new(now.as_seconds()));
        // Before anything is written: on a full disk the reserve must make room for this start.
        let space = room(&location, config, &metrics)?;
        let pool = connect(&location, config.database.connections).await?;
        open::origin(&pool, config).await?;
        let keys = keyring::open(&pool, &config.keys.dir, now).await?;
        let in_force = register(&pool, config.catalog(), now).await?;
        let settings = settings(config);
        let flows = Flows::new(pool, clock, settings, metrics, keys, in_force, space);
        let flows = Arc::new(flows);
        if !flows.pool.is_shared() {
            // The lock says that no other daemon lives: whatever is claimed was claimed by one that died.
            free_all(&flows).await?;
        }
        let public_url = &config.server.public_url;
        let trusted = config.server.trusted_proxies.clone();
        let waiting = config.limits.gate;
        let delivery = deliver::Settings {
            batch: config.delivery.batch,
            poll: config.delivery.poll,
            waiting,
        };
        let composer = Arc::new(Composer::new(templates, public_url));
        let routes = Routes::new(&flows, relays(config), routes(config)).context("smtp")?;
        let deliver = Deliver::new(flows.clone(), routes, composer, delivery).await?;
        let outlets = Outlets::new(flows.clone(), outlets(config)).context("trail")?;
        let Listeners { http, ops } = match bound {
            Some(bound) => bound,
            None => Listeners {
                http: bind("server.listen", config.server.listen).await?,
                ops: bind("ops.listen", config.ops.listen).await?,
            },
        };
        Ok(Self {
            app: App::new(flows.clone(), pages, public_url, trusted, waiting),
            deliver: Arc::new(deliver),
            outlets: Arc::new(outlets),
            started: Arc::new(config.clone()),
            http,
            ops,
            limits: listen::Limits {
                connections: config.server.max_connections,
                header_timeout: config.server.header_timeout,
                request_timeout: config.server.request_timeout,
                drain: config.server.drain,
            },
            roles: config.roles.clone(),
            copies: config.trail.copy.clone().map(Copies::new),
            drain: config.server.drain,
            flows,
            _lock: lock,
        })
    }

    /// Returns the address of the API and the pages.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn http_address(&self) -> std::io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// Returns the address of the operator's listener.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn ops_address(&self) -> std::io::Result<SocketAddr> {
        self.ops.local_addr()
    }

    /// Returns what a reload replaces.
    pub fn parts(&self) -> Parts {
        Parts {
            flows: self.flows.clone(),
            deliver: self.deliver.clone(),
            app: self.app.clone(),
            started: self.started.clone(),
        }
    }

    /// Runs every role until the stop.
    pub async fn run(self, stop: &Stop) -> Ended {
        let mut tasks = Tasks::new(stop);
        let flows = self.flows.clone();
        if self.roles.http {
            let (soft, hard) = (stop.soft(), stop.hard());
            let public = service(self.app.clone());
            tasks.spawn(
                "http",
                listen::serve(self.http, public, self.limits, soft, hard),
            );
        }
        if self.roles.deliver {
            let run = self.deliver.clone().run(stop.soft(), stop.hard());
            tasks.spawn("deliver", endless(run));
        }
        if self.roles.sequence {
            let sequencer = Sequencer::new(flows.clone(), self.copies);
            let until = stop.clone();
            tasks.spawn("sequence", endless(sequencer.run(move || until.soft())));
            tasks.spawn("outlets", endless(self.outlets.run(stop.soft())));
        }
        if self.roles.sweep {
            tasks.spawn("sweep", endless(sweep::run(flows.clone(), stop.soft())));
        }
        let here = Waits {
            mails: self.roles.deliver,
            events: self.roles.sequence,
        };
        let waking = wake::run(
            flows.clone(),
            here,
            self.started.keys.dir.clone(),
            stop.soft(),
        );
        tasks.spawn("wake", endless(waking));
        tasks.spawn("fold", fold::run(flows.clone(), stop.soft()));
        tasks.spawn("space", endless(space::run(flows.clone(), stop.soft())));
        tasks.spawn("gauge", endless(gauge::run(flows.clone(), stop.soft())));
        tasks.spawn("database", watch_database(flows.clone(), stop.clone()));

        // The operator's listener answers until the very end: draining is something to be seen.
        let numbers = {
            let (flows, stop) = (flows.clone(), stop.clone());
            let ready = move || ready(flows.clone(), stop.clone());
            ops::router(self.flows.metrics.clone(), ready)
        };
        let never = std::future::pending();
        let watching = listen::serve(self.ops, numbers, self.limits, never, stop.hard());
        let watching = tokio::spawn(watching);

        let ended = tasks.run(self.drain).await;
        lifecycle::notify_stopping();
        watching.abort();
        flows.pool.close().await;
        tracing::info!(?ended, "stopped");
        ended
    }
}

async fn endless(run: impl Future<Output = ()>) -> Result<(), Infallible> {
    run.await;
    Ok(())
}

/// Ends when the database failed so that nothing more can be promised.
async fn watch_database(flows: Arc<Flows>, stop: Stop) -> Result<(), &'static str> {
    tokio::select! {
        () = flows.broken.notified() => {
            Err("the database failed in a way that leaves earlier writes in doubt; look at the disk, then start again")
        }
        () = stop.soft() => Ok(()),
    }
}

async fn ready(flows: Arc<Flows>, stop: Stop) -> Result<Option<&'static str>, String> {
    if stop.is_soft() {
        return Err("stopping".to_owned());
    }
    if flows.space.is_low() {
        return Err("too little is free on the disk of the database".to_owned());
    }
    let writable = async {
        let mut tx = flows.pool.begin().await?;
        tx.lock_registers().await
    };
    let written = writable.await.map_err(|error: store::Error| {
        if error.is_fatal() {
            flows.broken.notify_one();
        }
        error.to_string()
    });
    // People are served all the same.
    let jumped = "the clock has jumped ahead: nothing expires; see confirmd clock accept";
    written.map(|()| flows.seen.has_jumped().then_some(jumped))
}

/// Looks at the disk under a SQLite file.
fn room(location: &Location, config: &Config, metrics: &Metrics) -> Result<Space, ConnectError> {
    let disk = match location {
        Location::Sqlite(path) => Some(Disk::under(path)?),
        Location::Postgres(..) => None,
    };
    let reserve = |disk: Disk| (disk.clone(), Reserve::of(&disk, config.database.reserve));
    let space = Space::new(disk.clone().map(reserve), config.database.min_free);
    space.look(false, metrics);
    if let Some(disk) = disk {
        disk.probe()?;
    }
    Ok(space)
}

async fn bind(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("{key}: cannot listen on {address}"))
}

/// Loads the templates and looks whether they speak every language of the lists.
pub(super) fn templates(config: &Config) -> anyhow::Result<Arc<Templates>> {
    let templates = Templates::load(config.templates.dir.as_deref()).context("templates")?;
    for list in &config.lists {
        for locale in list.consent.keys() {
            if !templates.speaks(locale) {
                bail!(
                    "lists.{}.consent.{locale}: there are no mails and pages in this language; put locales/{}.toml into templates.dir",
                    list.id,
                    locale.base()
                );
            }
        }
    }
    Ok(Arc::new(templates))
}
