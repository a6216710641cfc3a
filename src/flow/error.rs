//! Why a flow could not do its work.

use std::sync::Arc;

use super::Flows;
use crate::store;
use crate::telemetry::logs::field;

/// Why a flow could not do its work; nothing of it is in force.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// More requests wait than the gate lets wait.
    #[error("too many requests wait for the database")]
    Busy,
    /// The disk of the database is nearly full, and the flow is one that can wait.
    #[error("too little is free on the disk of the database")]
    NoRoom,
    /// The database.
    #[error(transparent)]
    Store(Arc<store::Error>),
}

impl From<store::Error> for Error {
    /// Every failure of the database comes through here on its way to an answer, and is logged here, once.
    fn from(error: store::Error) -> Self {
        tracing::error!({ field::ERROR } = %error, "the database refused");
        Error::Store(Arc::new(error))
    }
}

impl Error {
    /// Tells whether trying again later may help; where the disk failed, after a restart.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Error::Busy | Error::NoRoom => true,
            Error::Store(error) => error.is_unavailable() || error.is_unknown() || error.is_fatal(),
        }
    }
}

impl Flows {
    /// Tells the daemon where nothing more can be promised.
    pub fn judge(&self, error: &Error) {
        if let Error::Store(error) = error
            && error.is_fatal()
        {
            self.broken.notify_one();
        }
    }
}
