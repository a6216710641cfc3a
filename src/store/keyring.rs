//! The register of cryptographic keys: what there must be in the folder of key files.

use super::types::named;
use super::{Error, Tx, on};
use crate::domain::time::Timestamp;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Signs links.
    Links,
    /// Makes the keyed hashes of addresses.
    Pepper,
    /// Signs checkpoints of the trail.
    Trail,
}

impl Purpose {
    /// Returns the name used in the database and in file names.
    pub fn as_str(self) -> &'static str {
        match self {
            Purpose::Links => "links",
            Purpose::Pepper => "pepper",
            Purpose::Trail => "trail",
        }
    }
}

/// One registered key.
#[derive(Clone, Debug)]
pub struct Registered {
    /// Its id: for link keys the eight digits that tokens carry.
    pub id: String,
    /// What it is for.
    pub purpose: Purpose,
    /// `sign` or `verify`, for a link key also `unsubscribe-only`; `in use` for peppers.
    pub state: String,
    /// What the file must hash to.
    pub fingerprint: Vec<u8>,
    /// When it was made.
    pub created_at: Timestamp,
}

type Row = (String, String, String, Vec<u8>, Timestamp);

impl Tx {
    /// Returns all registered keys, oldest first.
    pub async fn keyring(&mut self) -> Result<Vec<Registered>, Error> {
        const SQL: &str = "select id, purpose, state, fingerprint, created_at from keyring order by created_at, id";
        let rows: Vec<Row> = on!(self, |conn| sqlx::query_as(SQL).fetch_all(conn).await?);
        rows.into_iter()
            .map(|(id, purpose, state, fingerprint, created_at)| {
                let purpose = named(&purpose, |name| match name {
                    "links" => Some(Purpose::Links),
                    "pepper" => Some(Purpose::Pepper),
                    "trail" => Some(Purpose::Trail),
                    _ => None,
                })?;
                Ok(Registered {
                    id,
                    purpose,
                    state,
                    fingerprint,
                    created_at,
                })
            })
            .collect()
    }

    /// Locks the register against other processes that register keys or lists.
    pub async fn lock_registers(&mut self) -> Result<(), Error> {
        const SQL: &str = "update trail_head set size = size where one = 1";
        on!(self, |conn| sqlx::query(SQL)
            .execute(conn)
            .await
            .map(drop)?);
        Ok(())
    }

    /// Registers a key.
    pub async fn register_key(&mut self, key: &Registered) -> Result<(), Error> {
        const SQL: &str = "insert into keyring (id, purpose, state, fingerprint, created_at) values ($1, $2, $3, $4, $5)";
        on!(self, |conn| sqlx::query(SQL)
            .bind(&key.id)
            .bind(key.purpose.as_str())
            .bind(&key.state)
            .bind(&key.fingerprint)
            .bind(key.created_at)
            .execute(conn)
            .await
            .map(drop)?);
        Ok(())
    }

    /// Changes what a key may still do.
    pub async fn set_key_state(&mut self, id: &str, state: &str) -> Result<(), Error> {
        const SQL: &str = "update keyring set state = $2 where id = $1";
        on!(self, |conn| sqlx::query(SQL)
            .bind(id)
            .bind(state)
            .execute(conn)
            .await
            .map(drop)?);
        Ok(())
    }
}
