//! Gates: requests that come until a transaction begins go into it together.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::space::{Need, look};
use super::{Error, Flows};
use crate::store::{self, Tx};

/// The most requests that one transaction takes.
const BATCH: usize = 256;

type Waiting<I, O> = (I, oneshot::Sender<Result<O, Error>>);

/// The entrance to a hot flow.
///
/// There is no timer: a lone request runs alone at once, and under load the batch grows to what one commit lets wait.
pub struct Gate<I, O> {
    queue: mpsc::Sender<Waiting<I, O>>,
    flows: Arc<Flows>,
    need: Need,
}

impl<I, O> Clone for Gate<I, O> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            flows: self.flows.clone(),
            need: self.need,
        }
    }
}

impl<I: Clone + Send + Sync + 'static, O: Send + 'static> Gate<I, O> {
    /// Opens a gate before a flow; at most `bound` requests wait. `need` says whether they are let in on a full disk.
    ///
    /// Its task ends when the last entrance is dropped.
    pub fn open<F, R>(flows: Arc<Flows>, bound: usize, need: Need, flow: F) -> Self
    where
        F: Fn(Arc<Flows>, Tx, Arc<[I]>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Vec<O>, store::Error>> + Send,
    {
        let (queue, mut waiting) = mpsc::channel::<Waiting<I, O>>(bound.max(1));
        let entrance = Self {
            queue,
            flows: flows.clone(),
            need,
        };
        tokio::spawn(async move {
            while let Some(first) = waiting.recv().await {
                let tx = flows.pool.begin().await;
                let mut batch = vec![first];
                while batch.len() < BATCH
                    && let Ok(next) = waiting.try_recv()
                {
                    batch.push(next);
                }
                run(&flows, need, &flow, tx, batch).await;
            }
        });
        entrance
    }

    /// Runs the flow for one request and returns after its commit.
    ///
    /// # Errors
    /// [`Error::Busy`] at once when too many wait, [`Error::NoRoom`] where this one can wait and the disk is nearly full;
    /// else what the database said.
    pub async fn pass(&self, item: I) -> Result<O, Error> {
        self.flows.space.let_in(self.need)?;
        let (answer, answered) = oneshot::channel();
        self.queue
            .try_send((item, answer))
            .map_err(|_| Error::Busy)?;
        answered.await.unwrap_or(Err(Error::Busy))
    }
}

async fn run<I, O, F, R>(
    flows: &Arc<Flows>,
    need: Need,
    flow: &F,
    tx: Result<Tx, store::Error>,
    batch: Vec<Waiting<I, O>>,
) where
    I: Clone,
    F: Fn(Arc<Flows>, Tx, Arc<[I]>) -> R,
    R: Future<Output = Result<Vec<O>, store::Error>>,
{
    let (items, answers): (Vec<I>, Vec<_>) = batch.into_iter().unzip();
    let items: Arc<[I]> = items.into();
    let (begun, done) = match tx {
        Ok(tx) => (true, flow(flows.clone(), tx, items.clone()).await),
        Err(error) => (false, Err(error)),
    };
    match done {
        Ok(outcomes) => {
            for (answer, outcome) in answers.into_iter().zip(outcomes) {
                // Whoever hung up has missed the answer; what was done stays done.
                let _ = answer.send(Ok(outcome));
            }
        }
        // One of them may be the reason, or there is room after a look. But a failed COMMIT may have been stored: then
        // nobody may be told otherwise, and nothing may run twice here.
        Err(error)
            if is_made_room(flows, need, &error).await
                || begun && answers.len() > 1 && !error.is_unknown() && !error.is_fatal() =>
        {
            let mut gone = None;
            for (item, answer) in items.iter().zip(answers) {
                let outcome = match &gone {
                    None => alone(flows, flow, item, &mut gone).await,
                    // One wait for a database that is gone is enough for all.
                    Some(error) => Err(Error::clone(error)),
                };
                let _ = answer.send(outcome);
            }
        }
        Err(error) => {
            let error = report(flows, error);
            for answer in answers {
                let _ = answer.send(Err(error.clone()));
            }
        }
    }
}

/// Runs the flow for one request; `gone` is why not even a transaction could begin.
async fn alone<I, O, F, R>(
    flows: &Arc<Flows>,
    flow: &F,
    item: &I,
    gone: &mut Option<Error>,
) -> Result<O, Error>
where
    I: Clone,
    F: Fn(Arc<Flows>, Tx, Arc<[I]>) -> R,
    R: Future<Output = Result<Vec<O>, store::Error>>,
{
    let tx = match flows.pool.begin().await {
        Ok(tx) => tx,
        Err(error) => return Err(gone.insert(report(flows, error)).clone()),
    };
    match flow(flows.clone(), tx, [item.clone()].into()).await {
        Ok(mut outcomes) => outcomes.pop().ok_or(Error::Busy),
        Err(error) => Err(report(flows, error)),
    }
}

/// Makes room where there was none, and tells whether this flow may use it.
async fn is_made_room(flows: &Arc<Flows>, need: Need, error: &store::Error) -> bool {
    if error.is_full() {
        look(flows, true).await;
    }
    error.is_full() && need == Need::CannotWait
}

fn report(flows: &Flows, error: store::Error) -> Error {
    let error = Error::from(error);
    flows.judge(&error);
    error
}
