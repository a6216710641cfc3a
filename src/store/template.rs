//! Templates of mails that were sent, by hash: so that each can be made again.

use super::set::Set;
use super::{Error, Tx, on};
use crate::domain::consent::Hash;
use crate::domain::time::Timestamp;

impl Tx {
    /// Keeps templates by hash; those already kept stay.
    pub async fn keep_templates(
        &mut self,
        templates: &[(Hash, String)],
        at: Timestamp,
    ) -> Result<(), Error> {
        const SQL: &str = "insert into template (hash, body, kept_at)
            select hash, body, kept_at from {set} where true order by n on conflict (hash) do nothing";
        let set = Set::new()
            .bytes("hash", templates.iter().map(|(hash, _)| hash.0.to_vec()))
            .text("body", templates.iter().map(|(_, body)| body.clone()))
            .time("kept_at", templates.iter().map(|_| at));
        self.write(SQL, set).await
    }

    /// Returns a kept template.
    pub async fn template(&mut self, hash: Hash) -> Result<Option<String>, Error> {
        const SQL: &str = "select body from template where hash = $1";
        let row: Option<(String,)> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(hash.0.to_vec())
            .fetch_optional(conn)
            .await?);
        Ok(row.map(|(body,)| body))
    }
}
