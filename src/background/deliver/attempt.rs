//! One attempt: a claimed mail goes to its relay, and what became of it is written down.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::Deliver;
use super::lane::{Lane, Turn};
use super::line::InLine;
use crate::background::verdict::{class_of, is_about_the_mail, judged, phase_of, sign_of};
use crate::background::{REST, failed};
use crate::domain::delivery::breaker::Sign;
use crate::domain::delivery::{Answer, Attempt};
use crate::domain::time::Timestamp;
use crate::flow::Error;
use crate::flow::job::Job;
use crate::flow::settle;
use crate::message::{Composed, Proof};
use crate::smtp::Outgoing;
use crate::store::queue::Back;
use crate::telemetry::logs::field;

/// A mail with its proof, or why it cannot be made.
pub(super) type Made = Result<(Composed, Proof), String>;

/// What last looks took of an attempt's time: that is ours, not the relay's.
#[derive(Default)]
struct Looking {
    began: Option<Instant>,
    took: Duration,
}

impl Looking {
    /// Returns the time that looks have taken, the one in progress included.
    fn time(&self) -> Duration {
        self.took + self.began.map_or(Duration::ZERO, |began| began.elapsed())
    }
}

impl Deliver {
    /// Sends one claimed mail and settles it.
    pub(super) async fn one(
        &self,
        job: &Arc<Job>,
        made: Made,
        lane: &Arc<Lane>,
        mail: &Arc<InLine>,
        turn: oneshot::Receiver<Turn>,
    ) {
        let (composed, proof) = match made {
            Ok(made) => made,
            Err(why) => {
                lane.note(Sign::Silent);
                tracing::error!({ field::MESSAGE } = %job.message.id, { field::ERROR } = %why, "a mail cannot be made");
                let answer = Answer {
                    phase: "compose".to_owned(),
                    cause: "defect".to_owned(),
                    ..Answer::default()
                };
                return self
                    .settle(job, Attempt::Deferred, Some(answer), None)
                    .await;
            }
        };
        let Ok(turn) = turn.await else {
            // Stopping, or the relay is left alone: it has heard nothing, so another process may have the mail.
            lane.note(Sign::Silent);
            let later = lane.later(job.to.domain(), self.flows.clock.now());
            return self.give_back(job, later).await;
        };
        mail.hold_back(false);
        let dot = AtomicBool::new(false);
        let outgoing = Outgoing {
            from: &composed.envelope_from,
            to: &composed.envelope_to,
            bytes: &composed.bytes,
            dot: &dot,
        };
        let look = Mutex::new(Looking::default());
        let look = || look.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        let took = || began.elapsed().saturating_sub(look().time());
        // It ends with the select below: what was cut off holds neither the connection nor the database any more.
        let dialogue = async {
            let sending = lane.relay().send(outgoing, || async {
                look().began = Some(Instant::now());
                let looked = self.line.look(&self.flows, mail).await;
                let mut look = look();
                (look.took, look.began) = (look.time(), None);
                let go = looked.unwrap_or_else(|error| {
                    failed(&self.flows, "deliver", &error);
                    false
                });
                if go {
                    self.line.leave(mail);
                }
                go
            });
            tokio::pin!(sending);
            loop {
                match timeout(lane.patience(), &mut sending).await {
                    Ok(verdict) => return verdict,
                    Err(_) if took() >= lane.patience() => {
                        lane.drags(job.to.domain());
                        return sending.await;
                    }
                    Err(_) => {}
                }
            }
        };
        let mut cut = self.cut.subscribe();
        let verdict = tokio::select! {
            biased;
            verdict = dialogue => Some(verdict),
            _ = cut.wait_for(|cut| *cut) => None,
        };
        let Some(verdict) = verdict else {
            lane.note(Sign::Silent);
            turn.end(None);
            return self.cut_off(job, proof, dot.load(Ordering::Relaxed)).await;
        };
        lane.note(sign_of(verdict));
        turn.end(is_about_the_mail(verdict).then(took));
        let Some((attempt, answer)) = judged(verdict) else {
            // Not wanted any more, or nobody knows: its next claim decides what becomes of it.
            return self.give_back(job, None).await;
        };
        lane.sound_alarm(verdict, &job.message);
        if attempt != Attempt::Sent {
            self.flows
                .metrics
                .smtp_failure(phase_of(verdict), class_of(verdict));
            tracing::debug!({ field::MESSAGE } = %job.message.id, { field::PHASE } = answer.phase, { field::CLASS } = answer.cause, "attempt failed");
        }
        self.settle(job, attempt, Some(answer), Some(proof)).await;
    }

    /// Writes down what a stop cut off. Before its dot the relay has nothing of a mail that counts.
    async fn cut_off(&self, job: &Arc<Job>, proof: Proof, dot: bool) {
        if !dot {
            return self.give_back(job, None).await;
        }
        let answer = Answer {
            phase: "dot".to_owned(),
            cause: "stopped".to_owned(),
            ..Answer::default()
        };
        self.settle(job, Attempt::Ambiguous, Some(answer), Some(proof))
            .await;
    }

    /// Writes down what became of a mail.
    pub(super) async fn settle(
        &self,
        job: &Arc<Job>,
        attempt: Attempt,
        answer: Option<Answer>,
        proof: Option<Proof>,
    ) {
        let result = settle::Result {
            job: job.clone(),
            attempt,
            answer,
            proof,
            again: false,
        };
        let mut plan = Arc::new(result.plan(self.flows.clock.now()));
        // What was said to the relay cannot be unsaid: try to write it down for as long as the claim lasts.
        let patience = self.flows.settings.after_data + self.flows.settings.lease_margin;
        let end = Instant::now() + patience;
        loop {
            match self.results.pass(plan.clone()).await {
                Ok(settle::Outcome::Settled(_)) => return,
                Ok(settle::Outcome::TooLate) => {
                    tracing::warn!({ field::MESSAGE } = %job.message.id, ?attempt, "late result: the claim had ended");
                    return;
                }
                Err(Error::Store(error)) if error.is_fatal() => return,
                Err(_) if Instant::now() < end => {
                    Arc::make_mut(&mut plan).again();
                    tokio::time::sleep(REST).await;
                }
                Err(_) => return,
            }
        }
    }

    /// Gives a mail back of which the relay has nothing that counts.
    pub(super) async fn give_back(&self, job: &Job, later: Option<Timestamp>) {
        let back = Back {
            id: job.message.id,
            claim: job.claim,
            due_at: later.unwrap_or(job.message.due_at),
        };
        // When that fails, its lease ends by itself; the gate has said so.
        let _ = self.returns.pass(back).await;
    }
}
