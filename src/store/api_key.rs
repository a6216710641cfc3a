//! API keys: kept as SHA-256 of 256 random bits, which needs no slow hash.

use sqlx::types::Json;
use uuid::Uuid;

use super::types::{hash, parsed};
use super::{Error, Tx, on};
use crate::domain::consent::Hash;
use crate::domain::id::ApiKeyId;
use crate::domain::list::SenderId;
use crate::domain::time::Timestamp;

/// One API key of a sender.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// Its id, which is no secret.
    pub id: ApiKeyId,
    /// Whose it is.
    pub sender: SenderId,
    /// What it opens.
    pub scopes: Vec<String>,
    /// The SHA-256 of the key itself.
    pub hash: Hash,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

type Row = (
    Uuid,
    String,
    Json<Vec<String>>,
    Vec<u8>,
    Timestamp,
    Option<Timestamp>,
);

impl ApiKey {
    fn read(row: Row) -> Result<Self, Error> {
        Ok(Self {
            id: ApiKeyId(row.0),
            sender: parsed(&row.1)?,
            scopes: row.2.0,
            hash: hash(row.3)?,
            created_at: row.4,
            revoked_at: row.5,
        })
    }
}

impl Tx {
    /// Writes a new key.
    pub async fn add_api_key(&mut self, key: &ApiKey) -> Result<(), Error> {
        const SQL: &str = "insert into api_key (id, sender, scopes, hash, created_at) values ($1, $2, $3, $4, $5)";
        on!(self, |conn| sqlx::query(SQL)
            .bind(key.id.0)
            .bind(key.sender.as_str())
            .bind(Json(&key.scopes))
            .bind(key.hash.0.to_vec())
            .bind(key.created_at)
            .execute(conn)
            .await
            .map(drop)?);
        Ok(())
    }

    /// Returns the key with this hash, revoked or not.
    pub async fn api_key(&mut self, hash: Hash) -> Result<Option<ApiKey>, Error> {
        const SQL: &str =
            "select id, sender, scopes, hash, created_at, revoked_at from api_key where hash = $1";
        let row: Option<Row> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(hash.0.to_vec())
            .fetch_optional(conn)
            .await?);
        row.map(ApiKey::read).transpose()
    }

    /// Returns all keys, oldest first.
    pub async fn api_keys(&mut self) -> Result<Vec<ApiKey>, Error> {
        const SQL: &str = "select id, sender, scopes, hash, created_at, revoked_at from api_key order by created_at, id";
        let rows: Vec<Row> = on!(self, |conn| sqlx::query_as(SQL).fetch_all(conn).await?);
        rows.into_iter().map(ApiKey::read).collect()
    }

    /// Revokes a key; returns whether it was in force.
    pub async fn revoke_api_key(&mut self, id: ApiKeyId, at: Timestamp) -> Result<bool, Error> {
        const SQL: &str = "update api_key set revoked_at = $2 where id = $1 and revoked_at is null";
        Ok(on!(self, |conn| sqlx::query(SQL)
            .bind(id.0)
            .bind(at)
            .execute(conn)
            .await?
            .rows_affected()
            > 0))
    }
}
