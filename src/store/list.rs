//! What lists said: facts and words by hash, and the revision in force.

use super::set::Set;
use super::types::{hash, parsed};
use super::{Error, Tx, on};
use crate::domain::consent::Hash;
use crate::domain::list::{Facts, ListId, SenderId};
use crate::domain::locale::Locale;
use crate::domain::time::Timestamp;

/// A list as it is registered.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The list.
    pub id: ListId,
    /// Whose it is, for ever.
    pub sender: SenderId,
    /// The revision of its words.
    pub revision: i64,
    /// The hash of its words.
    pub words: Hash,
    /// The last revision that changed materially.
    pub material: i64,
    /// The hash of its facts.
    pub facts: Hash,
    /// When it was taken out of the configuration.
    pub closed_at: Option<Timestamp>,
}

/// Words that are or were in force for a list.
#[derive(Clone, Debug)]
pub struct Words {
    /// For which list.
    pub list: ListId,
    /// Their SHA-256.
    pub hash: Hash,
    /// In which language.
    pub locale: Locale,
    /// The words.
    pub body: String,
    /// Of which revision, at first.
    pub revision: i64,
}

type Row = (
    String,
    String,
    i64,
    Vec<u8>,
    i64,
    Vec<u8>,
    Option<Timestamp>,
);

impl Tx {
    /// Returns all registered lists.
    pub async fn registered_lists(&mut self) -> Result<Vec<Registered>, Error> {
        const SQL: &str =
            "select id, sender, revision, words, material, facts, closed_at from list order by id";
        let rows: Vec<Row> = on!(self, |conn| sqlx::query_as(SQL).fetch_all(conn).await?);
        rows.into_iter()
            .map(|row| {
                Ok(Registered {
                    id: parsed(&row.0)?,
                    sender: parsed(&row.1)?,
                    revision: row.2,
                    words: hash(row.3)?,
                    material: row.4,
                    facts: hash(row.5)?,
                    closed_at: row.6,
                })
            })
            .collect()
    }

    /// Writes a list's registration, new or changed.
    pub async fn register_list(&mut self, list: &Registered) -> Result<(), Error> {
        const SQL: &str =
            "insert into list (id, sender, revision, words, material, facts, closed_at)
            values ($1, $2, $3, $4, $5, $6, $7)
            on conflict (id) do update set revision = excluded.revision, words = excluded.words,
              material = excluded.material, facts = excluded.facts, closed_at = excluded.closed_at";
        on!(self, |conn| sqlx::query(SQL)
            .bind(list.id.as_str())
            .bind(list.sender.as_str())
            .bind(list.revision)
            .bind(list.words.0.to_vec())
            .bind(list.material)
            .bind(list.facts.0.to_vec())
            .bind(list.closed_at)
            .execute(conn)
            .await
            .map(drop)?);
        Ok(())
    }

    /// Counts the signups that still ask for a list.
    pub async fn open_signups(&mut self, list: &ListId) -> Result<i64, Error> {
        const SQL: &str = "select count(*) from signup_list where list = $1 and state = 'open'";
        let (count,): (i64,) = on!(self, |conn| sqlx::query_as(SQL)
            .bind(list.as_str())
            .fetch_one(conn)
            .await?);
        Ok(count)
    }

    /// Keeps facts by hash; those already kept stay.
    pub async fn keep_facts(&mut self, facts: &Facts, at: Timestamp) -> Result<Hash, Error> {
        const SQL: &str = "insert into facts (hash, body, kept_at) values ($1, $2, $3) on conflict (hash) do nothing";
        let (hash, body) = facts.encode();
        on!(self, |conn| sqlx::query(SQL)
            .bind(hash.0.to_vec())
            .bind(body)
            .bind(at)
            .execute(conn)
            .await
            .map(drop)?);
        Ok(hash)
    }

    /// Returns kept facts.
    pub async fn facts(&mut self, hash: Hash) -> Result<Option<Facts>, Error> {
        const SQL: &str = "select body from facts where hash = $1";
        let row: Option<(String,)> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(hash.0.to_vec())
            .fetch_optional(conn)
            .await?);
        row.map(|(body,)| {
            serde_json::from_str(&body).map_err(|_| Error::corrupt("kept facts have another form"))
        })
        .transpose()
    }

    /// Returns kept facts as the exact text that their hash is of.
    pub async fn facts_text(&mut self, hash: Hash) -> Result<Option<String>, Error> {
        const SQL: &str = "select body from facts where hash = $1";
        let row: Option<(String,)> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(hash.0.to_vec())
            .fetch_optional(conn)
            .await?);
        Ok(row.map(|(body,)| body))
    }

    /// Returns words that were ever in force.
    pub async fn text_of(&mut self, hash: Hash) -> Result<Option<String>, Error> {
        const SQL: &str = "select body from consent_text where hash = $1 limit 1";
        let row: Option<(String,)> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(hash.0.to_vec())
            .fetch_optional(conn)
            .await?);
        Ok(row.map(|(body,)| body))
    }

    /// Keeps words; those already kept stay.
    pub async fn keep_words(&mut self, words: &[Words], at: Timestamp) -> Result<(), Error> {
        const SQL: &str = "insert into consent_text (list, hash, locale, body, revision, kept_at)
            select list, hash, locale, body, revision, kept_at from {set} where true order by n
            on conflict (list, hash, locale) do nothing";
        let set = Set::new()
            .text("list", words.iter().map(|w| w.list.to_string()))
            .bytes("hash", words.iter().map(|w| w.hash.0.to_vec()))
            .text("locale", words.iter().map(|w| w.locale.to_string()))
            .text("body", words.iter().map(|w| w.body.clone()))
            .int("revision", words.iter().map(|w| w.revision))
            .time("kept_at", words.iter().map(|_| at));
        self.write(SQL, set).await
    }

    /// Returns words of a list that are or were in force; in several languages the same, in any of them.
    pub async fn words(&mut self, list: &ListId, words: Hash) -> Result<Option<Words>, Error> {
        const SQL: &str = "select locale, body, revision from consent_text
            where list = $1 and hash = $2 order by locale limit 1";
        let row: Option<(String, String, i64)> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(list.as_str())
            .bind(words.0.to_vec())
            .fetch_optional(conn)
            .await?);
        row.map(|(locale, body, revision)| {
            Ok(Words {
                list: list.clone(),
                hash: words,
                locale: parsed(&locale)?,
                body,
                revision,
            })
        })
        .transpose()
    }

    /// Returns the hashes of all words ever in force, by list.
    pub async fn all_words(&mut self) -> Result<Vec<(ListId, Hash)>, Error> {
        const SQL: &str = "select list, hash from consent_text";
        let rows: Vec<(String, Vec<u8>)> =
            on!(self, |conn| sqlx::query_as(SQL).fetch_all(conn).await?);
        rows.into_iter()
            .map(|(list, words)| Ok((parsed(&list)?, hash(words)?)))
            .collect()
    }
}
