//! From claimed mails to their bytes.

use std::sync::Arc;

use super::Deliver;
use super::attempt::Made;
use crate::flow::job::Job;
use crate::message::{Composer, Letter};

impl Deliver {
    /// Makes mails, apart from the threads that wait for the network.
    pub(super) async fn compose(
        &self,
        composer: &Arc<Composer>,
        jobs: Vec<Arc<Job>>,
    ) -> Vec<(Arc<Job>, Made)> {
        let mut letters = Vec::with_capacity(jobs.len());
        for job in jobs {
            let letter = letter(&job);
            let known = self.learn(composer, &letter).await;
            letters.push((job, known.map(|()| letter)));
        }
        let (composer, keys) = (composer.clone(), self.flows.keys());
        let make = move || {
            let made = letters.into_iter().map(|(job, letter)| {
                let made = letter.and_then(|letter| {
                    let named = job.message.lists.iter().map(|about| about.facts).collect();
                    let made = composer.compose_proven(&letter, named, &keys.links);
                    made.map_err(|error| error.to_string())
                });
                (job, made)
            });
            made.collect()
        };
        let made = tokio::task::spawn_blocking(make).await;
        made.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    }

    /// Sees to it that the templates to which a mail is pinned are at hand.
    async fn learn(&self, composer: &Composer, letter: &Letter) -> Result<(), String> {
        if composer.knows(letter) {
            return Ok(());
        }
        let read = async || {
            let mut tx = self.flows.pool.read().await?;
            tx.template(letter.pinned.template).await
        };
        let source = read().await.map_err(|error| error.to_string())?;
        let source = source.ok_or("the templates of this mail were not kept")?;
        composer.learn(&source).map_err(|error| error.to_string())
    }
}

fn letter(job: &Job) -> Letter {
    let message = &job.message;
    Letter {
        kind: message.kind,
        pinned: job.pinned.clone(),
        to: job.to.clone(),
        locale: job.locale.clone(),
        facts: job.facts.clone(),
        signup: message.signup.map(|id| id.0),
        subscriptions: job.subscriptions.iter().map(|id| id.0).collect(),
        asked_at: job.asked_at,
        again_at: job.again_at,
        site: job.site.clone(),
        expires: job.expires,
    }
}
