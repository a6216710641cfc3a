//! Waking: hearing that another process wrote something, and telling the others.
//!
//! PostgreSQL has LISTEN and NOTIFY. A NOTIFY locks the whole server while it commits: so it goes alone, over a connection
//! of its own, which waits for no disk. SQLite counts the commits of other connections.

use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::time::{sleep, timeout};

use super::sqlite::Single;
use super::{Error, Pool, Tx};

const CHANNEL: &str = "confirmd";
/// The first number of the advisory locks by which processes show which keys they have; the second is the key's id.
const HAS_KEY: u32 = 0x636b_6579;
const MAILS: &str = "mails";
const EVENTS: &str = "events";

/// How often the file's version is read.
const LOOK: Duration = Duration::from_secs(1);
/// After this time without a notice the server is asked whether it still hears.
const QUIET: Duration = Duration::from_secs(30);
/// How long one waits for the server.
const PATIENCE: Duration = Duration::from_secs(10);

/// What waits for those who work on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// Mails that may be due.
    pub mails: bool,
    /// Events without a number.
    pub events: bool,
}

impl Waits {
    /// Both.
    pub const ALL: Waits = Waits {
        mails: true,
        events: true,
    };

    /// Tells whether anything waits.
    pub fn any(self) -> bool {
        self != Waits::default()
    }
}

/// What others ring, and what rings at the others.
pub struct Bell(Kind);

enum Kind {
    Sqlite { writer: Single, version: i64 },
    Postgres { listener: PgListener, name: String },
}

impl Bell {
    /// Begins to hear, under a name of its own. Through a pooler nothing can be heard.
    pub async fn hang(pool: &Pool, name: String) -> Result<Option<Self>, Error> {
        let server = match pool {
            Pool::Sqlite { writer, .. } => {
                let writer = writer.clone();
                let version = version(&writer).await?;
                return Ok(Some(Self(Kind::Sqlite { writer, version })));
            }
            Pool::Postgres(server) => server,
        };
        let Some(options) = server.session() else {
            return Ok(None);
        };
        let options = options
            .application_name("confirmd wake")
            .options([("synchronous_commit", "off")])
            .disable_statement_logging();
        let own = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(PATIENCE)
            .idle_timeout(None)
            .max_lifetime(None);
        let own = own.connect_with(options).await?;
        let mut listener = PgListener::connect_with(&own).await?;
        // Notices are missed between two connections: whoever hears must know.
        listener.eager_reconnect(false);
        answer(listener.listen(CHANNEL)).await?;
        Ok(Some(Self(Kind::Postgres { listener, name })))
    }

    /// Shows that this process has these keys, for as long as it hears.
    pub async fn show(&mut self, keys: &[u32]) -> Result<(), Error> {
        if let Kind::Postgres { listener, .. } = &mut self.0 {
            let keys: Vec<_> = keys.iter().map(|key| key.cast_signed()).collect();
            // Shared, and by nobody in any other way: so nobody waits. Keys are never given up.
            let lock = sqlx::query("select pg_advisory_lock_shared($1, key) from unnest($2) key")
                .bind(HAS_KEY.cast_signed())
                .bind(keys);
            answer(lock.execute(listener)).await?;
        }
        Ok(())
    }

    /// Waits until another process rings. Not waiting any longer loses nothing.
    pub async fn hear(&mut self) -> Result<Waits, Error> {
        match &mut self.0 {
            Kind::Sqlite {
                writer,
                version: known,
            } => loop {
                sleep(LOOK).await;
                let now = version(writer).await?;
                if std::mem::replace(known, now) != now {
                    return Ok(Waits::ALL);
                }
            },
            Kind::Postgres { listener, name } => loop {
                match timeout(QUIET, listener.try_recv()).await {
                    Ok(Ok(Some(notice))) => {
                        if let Some(waits) = read(notice.payload(), name) {
                            return Ok(waits);
                        }
                    }
                    Ok(Ok(None)) => {
                        return Err(Error::unavailable("the listening connection is lost"));
                    }
                    Ok(Err(error)) => return Err(error.into()),
                    Err(_) => {
                        let asked = sqlx::query("select 1").execute(&mut *listener);
                        answer(asked).await?;
                    }
                }
            },
        }
    }

    /// Rings at the other processes.
    pub async fn ring(&mut self, waits: Waits) -> Result<(), Error> {
        // A SQLite file serves one daemon.
        if let Kind::Postgres { listener, name } = &mut self.0 {
            let notify = sqlx::query("select pg_notify($1, $2)")
                .bind(CHANNEL)
                .bind(write(waits, name));
            answer(notify.execute(listener)).await?;
        }
        Ok(())
    }
}

impl Tx {
    /// Counts the processes that hear and do not have a key. Those behind a pooler show nothing; a SQLite file has one.
    pub async fn lacking(&mut self, key: u32) -> Result<i64, Error> {
        const SQL: &str = "select count(*) from (
            select l.pid from pg_locks l join pg_database d on d.oid = l.database
            where d.datname = current_database() and l.locktype = 'advisory' and l.objsubid = 2 and l.classid = $1
            group by l.pid having not bool_or(l.objid = $2)) lacking";
        let Tx::Postgres(tx) = self else {
            return Ok(0);
        };
        let count = sqlx::query_as(SQL).bind(Oid(HAS_KEY)).bind(Oid(key));
        let (count,) = tx
            .ask(async |conn| Ok(count.fetch_one(conn).await?))
            .await?;
        Ok(count)
    }
}

/// Reads how often other connections have committed. Asked on the connection that writes, its own commits do not count.
async fn version(writer: &Single) -> Result<i64, Error> {
    let (version,) = sqlx::query_as("select data_version from pragma_data_version")
        .fetch_one(&mut *writer.turn().await?)
        .await?;
    Ok(version)
}

async fn answer<T>(asked: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
    match timeout(PATIENCE, asked).await {
        Ok(answered) => Ok(answered?),
        Err(_) => Err(Error::unavailable("no answer")),
    }
}

/// A notice names its sender, who need not hear it, and what waits.
fn write(waits: Waits, name: &str) -> String {
    let mut notice = name.to_owned();
    for (waits, word) in [(waits.mails, MAILS), (waits.events, EVENTS)] {
        if waits {
            notice.push(' ');
            notice.push_str(word);
        }
    }
    notice
}

fn read(notice: &str, name: &str) -> Option<Waits> {
    let (sender, words) = notice.split_once(' ')?;
    let waits = |word| words.split(' ').any(|other| other == word);
    (sender != name).then(|| Waits {
        mails: waits(MAILS),
        events: waits(EVENTS),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_says_what_waits_to_all_but_its_sender() {
        let mails = Waits {
            mails: true,
            ..Waits::default()
        };
        for waits in [mails, Waits::ALL] {
            let notice = write(waits, "one");
            assert_eq!(read(&notice, "two"), Some(waits));
            assert_eq!(read(&notice, "one"), None);
        }
        assert_eq!(read("anything", "two"), None);
    }
}
