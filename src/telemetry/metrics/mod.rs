//! Numbers for an operator's monitoring, in OpenMetrics text.
//!
//! Labels are closed sets: `&'static str` names of enums, configured senders, matched route patterns. Nothing that a
//! stranger sends becomes a label.

use std::borrow::Cow;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use super::request::{method_name, status_class};

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Seconds; a press on a link or a signup takes a commit, so the steps are finest where commits are.
const BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

macro_rules! labels {
    ($($name:ident { $($label:ident: $kind:ty),+ })+) => {$(
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name { $($label: $kind),+ }
    )+};
}

labels! {
    Sender { sender: String }
    Reason { reason: &'static str }
    Message { kind: &'static str, outcome: &'static str }
    How { how: &'static str }
    Request { route: Cow<'static, str>, method: &'static str, status_class: &'static str }
    Route { route: Cow<'static, str> }
    Failure { phase: &'static str, class: &'static str }
    Relay { relay: String }
    State { state: &'static str }
    Copy { outlet: &'static str, outcome: &'static str }
}

/// All metrics of one process; each test has its own.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    accepted: Family<Sender, Counter>,
    withheld: Family<Reason, Counter>,
    messages: Family<Message, Counter>,
    confirms: Counter,
    declines: Family<How, Counter>,
    unsubscribes: Family<How, Counter>,
    repeated: Counter,
    requests: Family<Request, Counter>,
    durations: Family<Route, Histogram, fn() -> Histogram>,
    failures: Family<Failure, Counter>,
    relay_alarm: Family<Relay, Gauge>,
    relay_paused: Family<Relay, Gauge>,
    queue: Family<State, Gauge>,
    queue_oldest: Gauge<f64, std::sync::atomic::AtomicU64>,
    events: Gauge,
    unsequenced: Gauge,
    checkpoint_size: Gauge,
    checkpoint_signed: Gauge,
    trail_alarm: Gauge,
    copies: Family<Copy, Counter>,
    gate: Gauge,
    log: Gauge,
    disk_free: Gauge,
    disk_alarm: Gauge,
    clock_alarm: Gauge,
}

impl Metrics {
    /// Registers every metric of a process that started at a time, in seconds since 1970.
    pub fn new(started: i64) -> Self {
        let mut registry = Registry::default();
        let start: Gauge = Gauge::default();
        start.set(started);
        let help = "Start of the process, in seconds since 1970";
        registry.register("process_start_time_seconds", help, start);

        let ours = registry.sub_registry_with_prefix("confirmd");
        Self {
            accepted: add(ours, "signups_accepted", "Signups on stable storage"),
            withheld: add(
                ours,
                "signups_withheld",
                "Signups whose mail a limit or a hold kept back",
            ),
            messages: add(ours, "messages", "Attempts at mails, by how they ended"),
            confirms: add(ours, "confirms", "Subscriptions confirmed by a person"),
            declines: add(
                ours,
                "declines",
                "Lists of signups that a person said no to",
            ),
            unsubscribes: add(ours, "unsubscribes", "Subscriptions that a person ended"),
            repeated: add(
                ours,
                "unsubscribes_repeated",
                "Unsubscribes pressed again two days later: somebody still mails",
            ),
            requests: add(ours, "http_requests", "Requests answered"),
            durations: {
                let family = Family::new_with_constructor(durations as fn() -> Histogram);
                let help = "Time from the head of a request to the answer, in seconds";
                ours.register("http_request_duration_seconds", help, family.clone());
                family
            },
            failures: add(
                ours,
                "smtp_phase_failures",
                "SMTP sessions that failed, by phase",
            ),
            relay_alarm: add(
                ours,
                "relay_alarm",
                "1 while a relay refuses what is not the fault of one mail",
            ),
            relay_paused: add(
                ours,
                "relay_paused",
                "1 while a relay is left alone because it does not work",
            ),
            queue: add(
                ours,
                "queue_depth",
                "Mails by state, counted up to a hundred thousand",
            ),
            queue_oldest: add(
                ours,
                "queue_oldest_seconds",
                "Age of the oldest mail that is due, in seconds",
            ),
            events: add(ours, "trail_events", "Events that have a number"),
            unsequenced: add(
                ours,
                "unsequenced_events",
                "Events that have no number yet, counted up to a hundred thousand",
            ),
            checkpoint_size: add(
                ours,
                "checkpoint_size",
                "Events under the newest signed checkpoint",
            ),
            checkpoint_signed: add(
                ours,
                "checkpoint_timestamp_seconds",
                "When the newest checkpoint was signed, in seconds since 1970",
            ),
            trail_alarm: add(
                ours,
                "trail_alarm",
                "1 while the trail is not what was signed, its next event cannot be numbered, or its copy cannot be written",
            ),
            copies: add(
                ours,
                "checkpoint_copies",
                "Checkpoints handed to a place outside, by how that ended",
            ),
            gate: add(ours, "gate_waiting", "Requests that wait for a commit"),
            log: add(
                ours,
                "sqlite_log_pages",
                "Pages in SQLite's write-ahead log when it was looked at",
            ),
            disk_free: add(
                ours,
                "sqlite_disk_free_bytes",
                "Bytes that are free on the disk of SQLite's file, beside the reserve",
            ),
            disk_alarm: add(
                ours,
                "sqlite_disk_alarm",
                "1 while less is free there than database.min_free: signups are refused",
            ),
            clock_alarm: add(
                ours,
                "clock_alarm",
                "1 while the clock has jumped ahead: nothing expires and nothing is deleted",
            ),
            registry,
        }
    }

    /// Counts a signup that is on stable storage.
    pub fn signup_accepted(&self, sender: &str) {
        let sender = sender.to_owned();
        self.accepted.get_or_create(&Sender { sender }).inc();
    }

    /// Counts a signup whose mail was kept back.
    pub fn signup_withheld(&self, reason: &'static str) {
        self.withheld.get_or_create(&Reason { reason }).inc();
    }

    /// Counts an attempt at a mail.
    pub fn message(&self, kind: &'static str, outcome: &'static str) {
        self.messages
            .get_or_create(&Message { kind, outcome })
            .inc();
    }

    /// Counts a confirmed subscription.
    pub fn confirm(&self) {
        self.confirms.inc();
    }

    /// Counts a list of a signup that was declined.
    pub fn decline(&self, how: &'static str) {
        self.declines.get_or_create(&How { how }).inc();
    }

    /// Counts a subscription that was ended.
    pub fn unsubscribe(&self, how: &'static str) {
        self.unsubscribes.get_or_create(&How { how }).inc();
    }

    /// Counts an unsubscribe that was pressed again although it had been in force for two days.
    pub fn unsubscribe_repeated(&self) {
        self.repeated.inc();
    }

    /// Counts an answered request by the pattern of its route; a path may hold a token.
    pub fn request(
        &self,
        route: Cow<'static, str>,
        method: &Method,
        status: StatusCode,
        took: Duration,
    ) {
        let request = Request {
            route: route.clone(),
            method: method_name(method),
            status_class: status_class(status),
        };
        self.requests.get_or_create(&request).inc();
        self.durations
            .get_or_create(&Route { route })
            .observe(took.as_secs_f64());
    }

    /// Counts an SMTP session that failed.
    pub fn smtp_failure(&self, phase: &'static str, class: &'static str) {
        self.failures.get_or_create(&Failure { phase, class }).inc();
    }

    /// Raises or ends the alarm that a relay itself refuses to work.
    pub fn relay_alarm(&self, relay: &str, on: bool) {
        set(&self.relay_alarm, relay, on);
    }

    /// Says whether a relay is left alone.
    pub fn relay_paused(&self, relay: &str, on: bool) {
        set(&self.relay_paused, relay, on);
    }

    /// Sets how many mails are in a state.
    pub fn queue_depth(&self, state: &'static str, mails: i64) {
        self.queue.get_or_create(&State { state }).set(mails);
    }

    /// Sets the age of the oldest mail that is due.
    pub fn queue_oldest(&self, age: Duration) {
        self.queue_oldest.set(age.as_secs_f64());
    }

    /// Sets how many events have a number.
    pub fn trail_events(&self, events: i64) {
        self.events.set(events);
    }

    /// Sets what the newest checkpoint says, and when it was signed, in seconds since 1970.
    pub fn checkpoint(&self, size: u64, signed: i64) {
        self.checkpoint_size
            .set(i64::try_from(size).unwrap_or(i64::MAX));
        self.checkpoint_signed.set(signed);
    }

    /// Says whether the trail can be continued.
    pub fn trail_alarm(&self, on: bool) {
        self.trail_alarm.set(i64::from(on));
    }

    /// Counts a checkpoint that was handed to a place outside, or was not taken there.
    pub fn checkpoint_copy(&self, outlet: &'static str, outcome: &'static str) {
        self.copies.get_or_create(&Copy { outlet, outcome }).inc();
    }

    /// Sets how many events have no number yet.
    pub fn unsequenced_events(&self, events: i64) {
        self.unsequenced.set(events);
    }

    /// Sets how many requests wait for a commit.
    pub fn gate_waiting(&self, requests: i64) {
        self.gate.set(requests);
    }

    /// Sets how many pages SQLite's write-ahead log has.
    pub fn log_pages(&self, pages: i64) {
        self.log.set(pages);
    }

    /// Sets how many bytes are free on the disk of SQLite's file, and whether these are too few.
    pub fn disk(&self, free: u64, low: bool) {
        self.disk_free.set(i64::try_from(free).unwrap_or(i64::MAX));
        self.disk_alarm.set(i64::from(low));
    }

    /// Raises or ends the alarm that the clock has jumped ahead.
    pub fn clock_alarm(&self, on: bool) {
        self.clock_alarm.set(i64::from(on));
    }

    /// Writes all metrics in OpenMetrics text; serve it as [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut out = String::new();
        // A String takes everything that is written to it.
        let _ = text::encode(&mut out, &self.registry);
        out
    }
}

fn add<M: Metric + Default + Clone>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn set(of: &Family<Relay, Gauge>, relay: &str, on: bool) {
    let relay = relay.to_owned();
    of.get_or_create(&Relay { relay }).set(i64::from(on));
}

fn durations() -> Histogram {
    Histogram::new(BUCKETS)
}

#[cfg(test)]
mod tests;
