//! The connections to a relay: so many at once, kept while they are fresh, dropped whenever a dialogue broke off.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use lettre::transport::smtp::extension::ClientId;
use rustls::pki_types::ServerName;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    Cause, Outgoing, Phase, Settings, SettingsError, Tls, Verdict,
    open::Target,
    session::{Fault, Outcome, Session},
    tls,
};

/// The connections to one relay. Clones share them; needs a tokio runtime.
#[derive(Clone)]
pub struct Relay(Arc<Set>);

/// What [`Relay::probe`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The connection was encrypted.
    pub tls: bool,
    /// We logged in.
    pub auth: bool,
    /// The relay offers PIPELINING (RFC 2920).
    pub pipelining: bool,
}

struct Set {
    target: Target,
    open: Arc<Semaphore>,
    kept: Mutex<Kept>,
    idle: Duration,
    messages: u32,
}

#[derive(Default)]
struct Kept {
    /// The longest idle first.
    sessions: Vec<(Instant, Session)>,
    /// A task is waiting to close the ones that stay idle.
    watched: bool,
}

impl Relay {
    /// Prepares the connections; opens none.
    ///
    /// # Errors
    ///
    /// When a value is out of range or the CA file is unusable; the message names it.
    pub fn new(settings: Settings) -> Result<Relay, SettingsError> {
        let name = ServerName::try_from(settings.host.clone());
        let name = name.map_err(|_| SettingsError::Host(settings.host.clone()))?;
        let hello = settings.hello;
        if hello.is_empty() || !hello.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SettingsError::Hello(hello));
        }
        let credentials = match (settings.username, settings.password) {
            (Some(username), Some(password)) => Some((username, password)),
            (None, None) => None,
            _ => return Err(SettingsError::Credentials),
        };
        if settings.sessions == 0 {
            return Err(SettingsError::Zero("sessions"));
        }
        if settings.messages_per_connection == 0 {
            return Err(SettingsError::Zero("messages_per_connection"));
        }
        let target = Target {
            host: settings.host,
            port: settings.port,
            name,
            tls: settings.tls,
            connector: tls::connector(settings.ca_file.as_deref())?,
            credentials,
            hello: ClientId::Domain(hello),
            timeouts: settings.timeouts,
        };
        Ok(Relay(Arc::new(Set {
            target,
            open: Arc::new(Semaphore::new(
                settings.sessions.min(Semaphore::MAX_PERMITS),
            )),
            kept: Mutex::default(),
            idle: settings.idle,
            messages: settings.messages_per_connection,
        })))
    }

    /// Sends one mail, waiting for a free connection first.
    ///
    /// `before_data` is awaited before the write that carries DATA, while the connection waits; its time is the caller's
    /// to bound. Where the relay takes commands one by one that is after it accepted the recipient; else it is asked
    /// before the first, and once more when a kept connection turns out to be closed. False ends the transaction: nothing
    /// is sent. Each phase has its timeout, so that the call ends; dropping it drops the connection, and the mail's fate is
    /// unknown once its `dot` is set.
    pub async fn send<F, R>(&self, mail: Outgoing<'_>, mut before_data: F) -> Verdict
    where
        F: FnMut() -> R,
        R: Future<Output = bool>,
    {
        debug_assert!(
            [mail.from, mail.to]
                .iter()
                .all(|a| a.user().is_ascii() && a.domain().is_ascii())
        );
        let permit = self.0.permit().await;
        // held here, so that a dropped call drops it too
        let mut slot = self.0.take();
        let outcome = self.0.attempt(&mut slot, mail, &mut before_data).await;
        let (verdict, in_step) = match outcome {
            Ok(Outcome::Sent(reply)) => (Verdict::Sent { reply }, true),
            Ok(Outcome::Stopped) => (Verdict::Stopped, reset(&mut slot).await),
            Err(fault) => {
                let in_step = fault.leaves_connection() && reset(&mut slot).await;
                (Verdict::judge(fault.phase, fault.cause), in_step)
            }
        };
        if let Some(session) = slot.filter(|_| in_step) {
            self.0.put(session, permit);
        }
        verdict
    }

    /// Connects, encrypts, logs in and says goodbye, on a connection of its own.
    ///
    /// # Errors
    ///
    /// The first phase that does not succeed, and why.
    pub async fn probe(&self) -> Result<Probe, (Phase, Cause)> {
        let _permit = self.0.permit().await;
        let target = &self.0.target;
        let session = Session::open(target)
            .await
            .map_err(|fault| (fault.phase, fault.cause))?;
        let probe = Probe {
            tls: target.tls != Tls::None,
            auth: target.credentials.is_some(),
            pipelining: session.capabilities.pipelining,
        };
        session.quit().await;
        Ok(probe)
    }

    /// Says goodbye on all idle connections, within a second. Those in use are not touched and are kept afterwards.
    pub async fn close(&self) {
        let sessions = std::mem::take(&mut self.0.kept().sessions);
        quit_all(sessions).await;
    }
}

impl Set {
    async fn permit(&self) -> OwnedSemaphorePermit {
        self.open
            .clone()
            .acquire_owned()
            .await
            .expect("the semaphore is never closed")
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One dialogue. A kept connection may have been closed by the relay in the meantime: when its first reply shows
    /// that, nothing was sent, and a fresh connection is tried at once.
    async fn attempt<F, R>(
        &self,
        slot: &mut Option<Session>,
        mail: Outgoing<'_>,
        before_data: &mut F,
    ) -> Result<Outcome, Fault>
    where
        F: FnMut() -> R,
        R: Future<Output = bool>,
    {
        if let Some(session) = slot {
            match session.send(mail, before_data).await {
                Err(fault)
                    if fault.phase == Phase::Mail
                        && !fault.leaves_connection()
                        && fault.cause != Cause::Timeout =>
                {
                    *slot = None
                }
                outcome => return outcome,
            }
        }
        let session = slot.insert(Session::open(&self.target).await?);
        session.send(mail, before_data).await
    }

    /// Takes the connection that was used last, unless even that has been idle for too long.
    fn take(&self) -> Option<Session> {
        let mut kept = self.kept();
        match kept.sessions.last() {
            Some((since, _)) if since.elapsed() < self.idle => {
                kept.sessions.pop().map(|(_, session)| session)
            }
            Some(_) => {
                tokio::spawn(quit_all(std::mem::take(&mut kept.sessions)));
                None
            }
            None => None,
        }
    }

    /// Keeps a connection for the next mail, or closes one that has sent enough; that one counts as open until it is.
    fn put(self: &Arc<Self>, session: Session, permit: OwnedSemaphorePermit) {
        if session.begun >= self.messages {
            tokio::spawn(async move {
                session.quit().await;
                drop(permit);
            });
            return;
        }
        let mut kept = self.kept();
        kept.sessions.push((Instant::now(), session));
        if !std::mem::replace(&mut kept.watched, true) {
            tokio::spawn(watch(Arc::downgrade(self), Instant::now() + self.idle));
        }
    }
}

/// Closes connections that stay idle, until none is left.
async fn watch(set: Weak<Set>, mut next: Instant) {
    loop {
        sleep_until(next).await;
        let Some(set) = set.upgrade() else { return };
        let (expired, oldest) = {
            let mut kept = set.kept();
            let n = kept
                .sessions
                .iter()
                .take_while(|(since, _)| since.elapsed() >= set.idle)
                .count();
            let expired = kept.sessions.drain(..n).collect();
            kept.watched = !kept.sessions.is_empty();
            (expired, kept.sessions.first().map(|(since, _)| *since))
        };
        quit_all(expired).await;
        match oldest {
            Some(since) => next = since + set.idle,
            None => return,
        }
    }
}

async fn quit_all(sessions: Vec<(Instant, Session)>) {
    let mut goodbyes = JoinSet::new();
    for (_, session) in sessions {
        goodbyes.spawn(session.quit());
    }
    goodbyes.join_all().await;
}

async fn reset(slot: &mut Option<Session>) -> bool {
    match slot {
        Some(session) => session.reset().await,
        None => false,
    }
}
