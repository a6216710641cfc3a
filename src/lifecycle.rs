//! Starting and stopping: signals, the two-step stop, the tasks of the process, systemd.
//!
//! A soft stop takes no new work and finishes what runs. A hard stop cuts what is left. The first SIGTERM or SIGINT is
//! soft; the second, or the deadline, is hard. A task that dies on its own is a soft stop and a failed exit.

use std::collections::HashMap;
use std::fmt::Display;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::timeout;

use crate::telemetry::logs::field;

/// How long tasks may take to end after a hard stop before they are dropped where they stand.
const LAST_MOMENT: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Run,
    Soft,
    Hard,
}

/// The stop that all parts of a process share. It never goes back.
#[derive(Clone, Debug)]
pub struct Stop(Arc<watch::Sender<Phase>>);

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

impl Stop {
    /// Builds a stop that nobody has asked for yet.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Phase::Run)))
    }

    /// Waits until no new work may be taken; at once if that is so already.
    pub fn soft(&self) -> impl Future<Output = ()> + Send + use<> {
        self.reach(Phase::Soft)
    }

    /// Waits until running work must be cut; at once if that is so already.
    pub fn hard(&self) -> impl Future<Output = ()> + Send + use<> {
        self.reach(Phase::Hard)
    }

    /// Does what may be cut off at any moment; none if no new work may be taken before it is done.
    pub async fn or_soft<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.soft() => None,
        }
    }

    /// Asks everybody to finish.
    pub fn trigger_soft(&self) {
        self.raise(Phase::Soft);
    }

    /// Cuts everybody.
    pub fn trigger_hard(&self) {
        self.raise(Phase::Hard);
    }

    /// Tells whether no new work may be taken.
    pub fn is_soft(&self) -> bool {
        *self.0.borrow() >= Phase::Soft
    }

    /// Tells whether running work must be cut.
    pub fn is_hard(&self) -> bool {
        *self.0.borrow() >= Phase::Hard
    }

    fn raise(&self, to: Phase) {
        self.0.send_if_modified(|phase| {
            let raised = *phase < to;
            *phase = to.max(*phase);
            raised
        });
    }

    fn reach(&self, phase: Phase) -> impl Future<Output = ()> + Send + use<> {
        // The future holds the sender, so that waiting ends by reaching the phase alone.
        let (stop, mut phases) = (self.clone(), self.0.subscribe());
        async move {
            let _ = phases.wait_for(|now| *now >= phase).await;
            drop(stop);
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything was finished.
    Clean,
    /// Something was cut by the deadline or a second signal.
    Cut,
    /// A task died on its own.
    Failed,
}

/// The named tasks of a process.
#[derive(Debug)]
pub struct Tasks {
    set: JoinSet<Result<(), String>>,
    names: HashMap<Id, &'static str>,
    stop: Stop,
    failed: bool,
}

impl Tasks {
    /// Builds an empty set under a stop.
    pub fn new(stop: &Stop) -> Self {
        Self {
            set: JoinSet::new(),
            names: HashMap::new(),
            stop: stop.clone(),
            failed: false,
        }
    }

    /// Runs a task that lasts until the stop. One that ends earlier, however it does, has died.
    pub fn spawn<E: Display>(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let task = async move { task.await.map_err(|err| err.to_string()) };
        let id = self.set.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Waits for the stop and then for all tasks: until the deadline after a soft stop, hardly at all after a hard one.
    pub async fn run(mut self, drain: Duration) -> Ended {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.soft() => {}
            () = self.join(false) => stop.trigger_soft(),
        }
        let finished = tokio::select! {
            () = stop.hard() => false,
            done = timeout(drain, self.join(true)) => done.is_ok(),
        };
        if !finished {
            stop.trigger_hard();
            if timeout(LAST_MOMENT, self.join(true)).await.is_err() {
                for name in self.names.values() {
                    tracing::warn!(
                        { field::TASK } = name,
                        "dropped, for it did not end in time"
                    );
                }
            }
        }
        match (self.failed, finished) {
            (true, _) => Ended::Failed,
            (false, false) => Ended::Cut,
            (false, true) => Ended::Clean,
        }
    }

    /// Takes in tasks that have ended: the first that died, or all.
    async fn join(&mut self, all: bool) {
        while let Some(ended) = self.set.join_next_with_id().await {
            let id = match &ended {
                Ok((id, _)) => *id,
                Err(err) => err.id(),
            };
            let name = self.names.remove(&id).unwrap_or_default();
            let why = why(ended.map(|(_, result)| result), self.stop.is_soft());
            if let Some(why) = why {
                tracing::error!({ field::TASK } = name, { field::ERROR } = why, "died");
                self.failed = true;
            }
            if !all {
                return;
            }
        }
    }
}

/// Says why a task died, if it did.
fn why(ended: Result<Result<(), String>, JoinError>, stopping: bool) -> Option<String> {
    match ended {
        Ok(Ok(())) if stopping => None,
        Ok(Ok(())) => Some("it ended although nobody asked".to_owned()),
        Ok(Err(err)) => Some(err),
        // What it said is on standard error already, from the panic hook.
        Err(_) => Some("it panicked".to_owned()),
    }
}

/// Listens for SIGTERM and SIGINT, which stop, and SIGHUP; the receiver changes at each SIGHUP.
///
/// # Errors
/// When the process cannot listen for signals.
pub fn signals(stop: &Stop) -> io::Result<watch::Receiver<()>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut hup = signal(SignalKind::hangup())?;
    let (reload, reloads) = watch::channel(());
    let stop = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = either(&mut term, &mut int) => {
                    if stop.is_soft() {
                        tracing::warn!("second signal: cutting what runs");
                        stop.trigger_hard();
                    } else {
                        tracing::info!("stopping: no new work, finishing what runs");
                        stop.trigger_soft();
                    }
                }
                _ = hup.recv() => drop(reload.send(())),
            }
        }
    });
    Ok(reloads)
}

async fn either(term: &mut Signal, int: &mut Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// Tells systemd that everything listens and works (`Type=notify`); without systemd it does nothing.
pub fn notify_ready() {
    notify(&[NotifyState::Ready]);
}

/// Tells systemd that a reload begins; [`notify_ready`] ends it.
pub fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(err) => tracing::warn!({ field::ERROR } = %err, "no monotonic time for systemd"),
    }
}

/// Tells systemd that the process is stopping.
pub fn notify_stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(states: &[NotifyState]) {
    if let Err(err) = sd_notify::notify(states) {
        tracing::warn!({ field::ERROR } = %err, "systemd does not hear this process");
    }
}

/// Tells systemd twice in each watchdog interval that the event loop turns, until a hard stop; without a watchdog it
/// only waits.
pub async fn watchdog(stop: Stop) {
    let Some(interval) = sd_notify::watchdog_enabled() else {
        return stop.hard().await;
    };
    let mut beat = tokio::time::interval((interval / 2).max(Duration::from_millis(1)));
    let hard = stop.hard();
    tokio::pin!(hard);
    loop {
        tokio::select! {
            () = &mut hard => return,
            _ = beat.tick() => notify(&[NotifyState::Watchdog]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::pending;

    use super::*;

    const DRAIN: Duration = Duration::from_secs(20);

    async fn until(stop: impl Future<Output = ()>) -> Result<(), Infallible> {
        stop.await;
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_soft_stop_waits_for_work_and_ends_clean() {
        let stop = Stop::new();
        let mut tasks = Tasks::new(&stop);
        tasks.spawn("web", until(stop.soft()));
        let (stopped, work) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn("mail", work);
        stop.trigger_soft();
        let ended = tokio::spawn(tasks.run(DRAIN));
        stop.soft().await;
        assert!(!stop.is_hard());
        stopped.send(()).unwrap();
        assert_eq!(ended.await.unwrap(), Ended::Clean);
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_or_a_hard_stop_cuts() {
        for hard in [false, true] {
            let stop = Stop::new();
            let mut tasks = Tasks::new(&stop);
            tasks.spawn("deaf", pending::<Result<(), Infallible>>());
            tasks.spawn("web", until(stop.hard()));
            let begin = tokio::time::Instant::now();
            stop.trigger_soft();
            if hard {
                stop.trigger_hard();
            }
            assert_eq!(tasks.run(DRAIN).await, Ended::Cut);
            let drained = if hard { Duration::ZERO } else { DRAIN };
            assert_eq!(begin.elapsed().as_secs(), (drained + LAST_MOMENT).as_secs());
            assert!(stop.is_hard());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_dies_stops_the_others_and_fails() {
        async fn early() -> Result<(), &'static str> {
            Ok(())
        }
        async fn error() -> Result<(), &'static str> {
            Err("no disk")
        }
        async fn panic() -> Result<(), &'static str> {
            panic!("planted")
        }
        for death in 0..3 {
            let stop = Stop::new();
            let mut tasks = Tasks::new(&stop);
            tasks.spawn("web", until(stop.soft()));
            match death {
                0 => tasks.spawn("early", early()),
                1 => tasks.spawn("error", error()),
                _ => tasks.spawn("panic", panic()),
            }
            assert_eq!(tasks.run(DRAIN).await, Ended::Failed, "{death}");
            assert!(stop.is_soft() && !stop.is_hard(), "{death}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_dies_while_stopping_fails_too() {
        let stop = Stop::new();
        let mut tasks = Tasks::new(&stop);
        let soft = stop.soft();
        tasks.spawn("flush", async move {
            soft.await;
            Err("no disk")
        });
        stop.trigger_soft();
        assert_eq!(tasks.run(DRAIN).await, Ended::Failed);
    }

    #[tokio::test]
    async fn the_first_signal_finishes_the_second_cuts_and_sighup_reloads() {
        let stop = Stop::new();
        let mut reloads = signals(&stop).unwrap();
        let send = |name: &str| {
            let line = format!("kill -{name} {}", std::process::id());
            let sent = std::process::Command::new("sh")
                .args(["-c", &line])
                .status();
            assert!(sent.unwrap().success());
        };
        send("HUP");
        reloads.changed().await.unwrap();
        assert!(!stop.is_soft());
        send("TERM");
        stop.soft().await;
        assert!(!stop.is_hard());
        send("INT");
        stop.hard().await;
    }
}
