//! Checkpoints go to places outside that can only be written: the log, a program, an HTTPS endpoint; and once a day to a
//! program that has one time-stamped.
//!
//! Each place stands by itself: one that fails delays nobody, and is tried anew with the next checkpoint, which covers
//! all before it. Each gets the newest one at least once, after every start again.

mod endpoint;
mod program;

use std::future::{Future, pending};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;
use url::Url;

use self::endpoint::Endpoint;
use super::repeat;
use crate::domain::time::Timestamp;
use crate::flow::Flows;
use crate::smtp::SettingsError;
use crate::store::Error;
use crate::store::trail::Kept;
use crate::telemetry::logs::{CHECKPOINT, field};

const POLL: Duration = Duration::from_secs(5);
const DAY: i64 = 24 * 3600;

/// Which places there are.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A program and its arguments, or nothing.
    pub command: Vec<String>,
    /// An https address, or an http one on this machine.
    pub endpoint: Option<Url>,
    /// PEM certificates that are trusted for it besides Mozilla's roots.
    pub ca_file: Option<PathBuf>,
    /// A program and its arguments that prints a time stamp, or nothing.
    pub stamp: Vec<String>,
    /// Longest time for each.
    pub timeout: Duration,
}

/// The places outside.
pub struct Outlets {
    flows: Arc<Flows>,
    outlets: Vec<Outlet>,
    timeout: Duration,
}

struct Outlet {
    place: Place,
    state: Mutex<State>,
}

enum Place {
    Log,
    Command(Vec<String>),
    Endpoint(Box<Endpoint>),
    Stamp(Vec<String>),
}

impl Place {
    fn name(&self) -> &'static str {
        match self {
            Place::Log => "log",
            Place::Command(_) => "command",
            Place::Endpoint(_) => "endpoint",
            Place::Stamp(_) => "stamp",
        }
    }
}

#[derive(Default)]
struct State {
    /// What it was given last.
    given: Option<Kept>,
    /// Whether it did not take that.
    failing: bool,
}

/// What became of a checkpoint at one place.
enum Outcome {
    /// It is there.
    Sent,
    /// It was not wanted there.
    Spared,
    /// Another took its place while it was stamped.
    Outrun,
}

/// Why a place did not take a checkpoint. Says nothing that came from there but numbers.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("not done in time")]
    Late,
    #[error("the program cannot be started: {0}")]
    Start(io::ErrorKind),
    #[error("the program cannot be read: {0}")]
    Read(io::ErrorKind),
    #[error("the program ended with exit code {0}")]
    Exit(i32),
    #[error("the program was ended by a signal")]
    Signal,
    #[error(
        "the program printed no time stamp: a DER sequence of at most 64 KiB, and nothing else"
    )]
    NoStamp,
    #[error("the endpoint answered with status {0}")]
    Status(u16),
    #[error("the endpoint cannot be reached: {0}")]
    Unreachable(io::ErrorKind),
    #[error("the endpoint cannot be reached: no such host, or no way to it")]
    NoWay,
    #[error("the endpoint is not trusted, or speaks no TLS; look at trail.ca_file")]
    Tls,
    #[error("the endpoint did not answer in HTTP")]
    NoHttp,
    #[error(transparent)]
    Store(#[from] Error),
}

impl Outlets {
    /// Takes the places that are configured; the log is always one.
    ///
    /// # Errors
    /// When the CA file holds no certificates.
    pub fn new(flows: Arc<Flows>, settings: Settings) -> Result<Self, SettingsError> {
        let program = |words: Vec<String>| Some(words).filter(|words| !words.is_empty());
        let endpoint = match settings.endpoint {
            Some(url) => Some(Endpoint::new(&url, settings.ca_file.as_deref())?),
            None => None,
        };
        let places = [
            Some(Place::Log),
            program(settings.command).map(Place::Command),
            endpoint.map(|endpoint| Place::Endpoint(Box::new(endpoint))),
            program(settings.stamp).map(Place::Stamp),
        ];
        let outlet = |place| Outlet {
            place,
            state: Mutex::default(),
        };
        Ok(Self {
            flows,
            outlets: places.into_iter().flatten().map(outlet).collect(),
            timeout: settings.timeout,
        })
    }

    /// Gives the newest checkpoint to each place that has not been given it, one after the other.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn step(&self) -> Result<bool, Error> {
        let mut more = false;
        for outlet in &self.outlets {
            more |= self.serve(outlet).await?;
        }
        Ok(more)
    }

    /// Serves each place until `soft`. What runs then is cut off: the next start gives it again.
    pub async fn run(self: Arc<Self>, soft: impl Future<Output = ()>) {
        let mut places = JoinSet::new();
        for at in 0..self.outlets.len() {
            let this = self.clone();
            places.spawn(async move {
                let (outlet, ring) = (&this.outlets[at], &this.flows.checkpoint_signed);
                let next = || this.serve(outlet);
                repeat(&this.flows, "outlets", ring, POLL, pending(), next).await;
            });
        }
        tokio::select! {
            () = soft => {}
            // One that ends by itself has panicked, and the role with it.
            _ = places.join_next() => {}
        }
    }

    /// Gives the newest checkpoint to a place; returns whether there may be a newer one by now.
    async fn serve(&self, outlet: &Outlet) -> Result<bool, Error> {
        let newest = self.flows.pool.read().await?.last_checkpoint().await?;
        let Some(newest) = newest.filter(|newest| !outlet.has(newest)) else {
            return Ok(false);
        };
        let given = match timeout(self.timeout, self.give(&outlet.place, &newest)).await {
            Ok(Err(Failure::Store(error))) => return Err(error),
            Ok(given) => given,
            Err(_) => Err(Failure::Late),
        };
        outlet.state().given = Some(newest);
        match given {
            Ok(Outcome::Sent) => self.say(outlet, None),
            Ok(Outcome::Spared | Outcome::Outrun) => {}
            Err(failure) => self.say(outlet, Some(failure)),
        }
        Ok(true)
    }

    async fn give(&self, place: &Place, kept: &Kept) -> Result<Outcome, Failure> {
        match place {
            Place::Log => {
                let Kept {
                    size, epoch, note, ..
                } = kept;
                tracing::info!(target: CHECKPOINT, size, epoch, note, "checkpoint");
            }
            Place::Command(words) => program::tell(words, &kept.note).await?,
            Place::Endpoint(endpoint) => endpoint.post(&kept.note).await?,
            Place::Stamp(words) => return self.stamp(words, kept).await,
        }
        Ok(Outcome::Sent)
    }

    /// Has a checkpoint stamped, unless one of its day is.
    async fn stamp(&self, words: &[String], kept: &Kept) -> Result<Outcome, Failure> {
        let seconds = kept.signed_at.as_seconds();
        let begin = seconds - seconds.rem_euclid(DAY);
        let [day, next] = [begin, begin + DAY].map(Timestamp::from_seconds);
        let pool = &self.flows.pool;
        if pool.read().await?.has_stamp_between(day, next).await? {
            return Ok(Outcome::Spared);
        }
        let stamp = program::ask(words, &kept.note).await?;
        if !program::is_der(&stamp) {
            return Err(Failure::NoStamp);
        }
        let mut tx = pool.begin().await?;
        // Another process may have had one stamped as well; the first is kept.
        tx.lock_trail().await?;
        if tx.has_stamp_between(day, next).await? {
            return Ok(Outcome::Spared);
        }
        let is_kept = tx.keep_stamp(kept, &stamp).await?;
        tx.commit().await?;
        Ok(if is_kept {
            Outcome::Sent
        } else {
            Outcome::Outrun
        })
    }

    /// Counts, and says once that a place began to fail, and once that it works again.
    fn say(&self, outlet: &Outlet, failure: Option<Failure>) {
        let name = outlet.place.name();
        let outcome = if failure.is_some() { "failed" } else { "sent" };
        self.flows.metrics.checkpoint_copy(name, outcome);
        let before = std::mem::replace(&mut outlet.state().failing, failure.is_some());
        match failure {
            Some(failure) if !before => tracing::error!(
                { field::OUTLET } = name,
                { field::REASON } = %failure,
                "checkpoints do not get out; trying again with each"
            ),
            None if before => {
                tracing::info!({ field::OUTLET } = name, "checkpoints get out again");
            }
            _ => {}
        }
    }
}

impl Outlet {
    fn has(&self, kept: &Kept) -> bool {
        let state = self.state();
        let given = state.given.as_ref();
        // A stamp that came to it makes no other checkpoint of it.
        given.is_some_and(|given| (given.epoch, &given.note) == (kept.epoch, &kept.note))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
