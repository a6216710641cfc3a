//! The trail: events get their numbers, the tree over them grows, checkpoints are kept.

use super::set::Set;
use super::types::hash;
use super::{Error, Tx, on};
use crate::domain::id::EventId;
use crate::domain::time::Timestamp;
use crate::trail::tree::{TileId, Tiles};

/// How far the trail reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many events have a number.
    pub size: u64,
    /// Which epoch it is; 1 unless the operator declared that a part was lost.
    pub epoch: u64,
}

/// How far events had come at a moment. An event takes its place before it is committed: on PostgreSQL those before the
/// newest may still come.
#[derive(Clone, Copy, Debug)]
pub struct Horizon {
    /// The newest place at which an event is.
    pub newest: i64,
    /// The oldest transaction that writes.
    oldest: i64,
}

impl Horizon {
    /// Tells whether all have ended that began to write before a transaction got its id.
    pub fn is_past(&self, id: TransactionId) -> bool {
        self.oldest >= id.0
    }
}

/// The id of a transaction that writes; higher than that of each that began to write before it.
#[derive(Clone, Copy, Debug)]
pub struct TransactionId(i64);

/// One checkpoint as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// In which epoch.
    pub epoch: u64,
    /// How long the trail was.
    pub size: u64,
    /// The signed note.
    pub note: String,
    /// When it was signed.
    pub signed_at: Timestamp,
    /// A time stamp over the note (RFC 3161).
    pub stamp: Option<Vec<u8>>,
}

type CheckpointRow = (i64, i64, String, Timestamp, Option<Vec<u8>>);

fn checkpoint((epoch, size, note, signed_at, stamp): CheckpointRow) -> Kept {
    Kept {
        epoch: epoch.unsigned_abs(),
        size: size.unsigned_abs(),
        note,
        signed_at,
        stamp,
    }
}

pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl Tx {
    /// Locks the one row of the trail's head: of all processes one numbers at a time, without gap or repeat.
    pub async fn lock_trail(&mut self) -> Result<Head, Error> {
        const SQL: &str = "update trail_head set size = size where one = 1 returning size, epoch";
        head(self.rows(SQL, Set::new()).await?)
    }

    /// Returns how far the trail reaches.
    pub async fn trail_head(&mut self) -> Result<Head, Error> {
        const SQL: &str = "select size, epoch from trail_head where one = 1";
        let rows: Vec<(i64, i64)> = on!(self, |conn| sqlx::query_as(SQL).fetch_all(conn).await?);
        head(rows)
    }

    /// Returns how far events have come.
    pub async fn horizon(&mut self) -> Result<Horizon, Error> {
        const SQL: &str = "select coalesce((select max(ord) from event), 0),
            pg_snapshot_xmin(pg_current_snapshot())::text::bigint";
        let (newest, oldest) = match self {
            // One after the other writes, and the head says from which place on events have no number.
            Tx::Sqlite(_) => (0, 0),
            Tx::Postgres(tx) => {
                tx.ask(async |conn| Ok(sqlx::query_as(SQL).fetch_one(conn).await?))
                    .await?
            }
        };
        Ok(Horizon { newest, oldest })
    }

    /// Returns the id of this transaction. The snapshot of a [`Horizon`] cannot stand in for it: its upper bound is the
    /// newest that has ended, and those that began to write after that one may still run.
    pub async fn id(&mut self) -> Result<TransactionId, Error> {
        const SQL: &str = "select pg_current_xact_id()::text::bigint";
        let (id,) = match self {
            // Whoever writes, nobody else does.
            Tx::Sqlite(_) => (0,),
            Tx::Postgres(tx) => {
                tx.ask(async |conn| Ok(sqlx::query_as(SQL).fetch_one(conn).await?))
                    .await?
            }
        };
        Ok(TransactionId(id))
    }

    /// Returns the bytes of events without a number, after a place in the order of writing and in that order, at most
    /// `limit`, with the place of each.
    pub async fn unnumbered(
        &mut self,
        after: i64,
        limit: i64,
    ) -> Result<Vec<(i64, Vec<u8>)>, Error> {
        const SQL: &str = "select ord, leaf from unnumbered_event where ord > $1
            order by ord limit $2";
        Ok(on!(self, |conn| sqlx::query_as(SQL)
            .bind(after)
            .bind(limit)
            .fetch_all(conn)
            .await?))
    }

    /// Gives the events at these places the numbers after `size`; the head is locked, so that nobody else has numbered them.
    pub async fn number(&mut self, size: u64, places: &[i64]) -> Result<(), Error> {
        const SQL: &str = "update event set seq = s.seq from {set} where event.ord = s.ord";
        let numbers = (size + 1..).map(signed);
        if let Tx::Sqlite(_) = self {
            // An event's place is its number: with the head, these have theirs.
            return match numbers.zip(places).find(|(number, place)| number != *place) {
                Some((number, _)) => Err(Error::corrupt(format!("event {number} is missing"))),
                None => Ok(()),
            };
        }
        let set = Set::new()
            .int("ord", places.iter().copied())
            .int("seq", numbers.take(places.len()));
        self.write(SQL, set).await
    }

    /// Writes how far the trail reaches; its head is locked.
    pub async fn set_trail_head(&mut self, head: Head) -> Result<(), Error> {
        const SQL: &str =
            "update trail_head set size = s.size, epoch = s.epoch from {set} where one = 1";
        let set = Set::new()
            .int("size", [signed(head.size)])
            .int("epoch", [signed(head.epoch)]);
        self.write(SQL, set).await
    }

    /// Returns tiles of the tree; what is missing is left out.
    pub async fn tiles(&mut self, ids: impl IntoIterator<Item = TileId>) -> Result<Tiles, Error> {
        const SQL: &str = "select tile.level, tile.place, tile.hashes
            from {set} join tile on tile.level = s.level and tile.place = s.place";
        let ids: Vec<TileId> = ids.into_iter().collect();
        if ids.is_empty() {
            return Ok(Tiles::new());
        }
        let set = Set::new()
            .int("level", ids.iter().map(|id| i64::from(id.level)))
            .int("place", ids.iter().map(|id| signed(id.index)));
        let rows: Vec<(i64, i64, Vec<u8>)> = self.rows(SQL, set).await?;
        let mut tiles = Tiles::new();
        for (level, place, bytes) in rows {
            let id = TileId {
                level: u8::try_from(level).map_err(|_| Error::corrupt("a tile's level"))?,
                index: place.unsigned_abs(),
            };
            let hashes = bytes.chunks(32).map(|bytes| hash(bytes.to_vec()));
            tiles.insert(id, hashes.collect::<Result<_, _>>()?);
        }
        Ok(tiles)
    }

    /// Returns over how many events the tree is.
    pub async fn tree_size(&mut self) -> Result<u64, Error> {
        const SQL: &str =
            "select place, hashes from tile where level = 0 order by place desc limit 1";
        let last: Option<(i64, Vec<u8>)> = on!(self, |conn| sqlx::query_as(SQL)
            .fetch_optional(conn)
            .await?);
        let size =
            |(place, hashes): (i64, Vec<u8>)| place.unsigned_abs() * 256 + hashes.len() as u64 / 32;
        Ok(last.map_or(0, size))
    }

    /// Writes tiles that grew or are new.
    pub async fn save_tiles(&mut self, tiles: &Tiles) -> Result<(), Error> {
        const SQL: &str = "insert into tile (level, place, hashes)
            select level, place, hashes from {set} where true
            on conflict (level, place) do update set hashes = excluded.hashes";
        if tiles.is_empty() {
            return Ok(());
        }
        let bytes = |hashes: &Vec<_>| {
            hashes
                .iter()
                .flat_map(|hash: &crate::domain::consent::Hash| hash.0)
                .collect::<Vec<u8>>()
        };
        let set = Set::new()
            .int("level", tiles.keys().map(|id| i64::from(id.level)))
            .int("place", tiles.keys().map(|id| signed(id.index)))
            .bytes("hashes", tiles.values().map(bytes));
        self.write(SQL, set).await
    }

    /// Returns the bytes of events after a number, at most `limit`, with their numbers.
    pub async fn leaves_after(
        &mut self,
        seq: u64,
        limit: i64,
    ) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        const SQL: &str =
            "select seq, leaf from numbered_event where seq > $1 order by seq limit $2";
        let rows: Vec<(i64, Vec<u8>)> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(signed(seq))
            .bind(limit)
            .fetch_all(conn)
            .await?);
        let row = |(seq, leaf): (i64, _)| (seq.unsigned_abs(), leaf);
        Ok(rows.into_iter().map(row).collect())
    }

    /// Returns the number of an event, if it has one.
    pub async fn number_of(&mut self, event: EventId) -> Result<Option<u64>, Error> {
        const SQL: &str = "select seq from numbered_event where id = $1";
        let row: Option<(i64,)> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(event.0)
            .fetch_optional(conn)
            .await?);
        Ok(row.map(|(seq,)| seq.unsigned_abs()))
    }

    /// Keeps a checkpoint. While nothing happens only its time differs from the one before, which then goes, unless it
    /// has a time stamp: that proves nothing of another note.
    pub async fn keep_checkpoint(&mut self, kept: &Kept) -> Result<(), Error> {
        const BEFORE: &str =
            "delete from checkpoint where epoch = $1 and size = $2 and stamp is null";
        const SQL: &str =
            "insert into checkpoint (epoch, size, note, signed_at) values ($1, $2, $3, $4)";
        on!(self, |conn| sqlx::query(BEFORE)
            .bind(signed(kept.epoch))
            .bind(signed(kept.size))
            .execute(conn)
            .await
            .map(drop)?);
        on!(self, |conn| sqlx::query(SQL)
            .bind(signed(kept.epoch))
            .bind(signed(kept.size))
            .bind(&kept.note)
            .bind(kept.signed_at)
            .execute(conn)
            .await
            .map(drop)?);
        Ok(())
    }

    /// Keeps the time stamp over a checkpoint, if that still says what was stamped; returns whether it does.
    pub async fn keep_stamp(&mut self, kept: &Kept, stamp: &[u8]) -> Result<bool, Error> {
        const SQL: &str =
            "update checkpoint set stamp = $1 where epoch = $2 and size = $3 and note = $4";
        let done = on!(self, |conn| sqlx::query(SQL)
            .bind(stamp)
            .bind(signed(kept.epoch))
            .bind(signed(kept.size))
            .bind(&kept.note)
            .execute(conn)
            .await?
            .rows_affected());
        Ok(done > 0)
    }

    /// Tells whether a checkpoint that was signed at some time from `from` on and before `to` has a time stamp.
    pub async fn has_stamp_between(
        &mut self,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<bool, Error> {
        const SQL: &str = "select size from checkpoint
            where stamp is not null and signed_at >= $1 and signed_at < $2 order by signed_at limit 1";
        let row: Option<(i64,)> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(from)
            .bind(to)
            .fetch_optional(conn)
            .await?);
        Ok(row.is_some())
    }

    /// Returns the first time-stamped checkpoint of an epoch over at least so many events.
    pub async fn stamped_checkpoint(
        &mut self,
        epoch: u64,
        size: u64,
    ) -> Result<Option<Kept>, Error> {
        const SQL: &str = "select epoch, size, note, signed_at, stamp from checkpoint
            where stamp is not null and epoch = $1 and size >= $2 order by size, signed_at limit 1";
        let row: Option<CheckpointRow> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(signed(epoch))
            .bind(signed(size))
            .fetch_optional(conn)
            .await?);
        Ok(row.map(checkpoint))
    }

    /// Returns the newest checkpoint.
    pub async fn last_checkpoint(&mut self) -> Result<Option<Kept>, Error> {
        const SQL: &str = "select epoch, size, note, signed_at, stamp from checkpoint
            order by epoch desc, size desc, signed_at desc limit 1";
        let row: Option<CheckpointRow> = on!(self, |conn| sqlx::query_as(SQL)
            .fetch_optional(conn)
            .await?);
        Ok(row.map(checkpoint))
    }
}

impl Tx {
    /// Returns checkpoints after one, by size, epoch and time, at most `limit`.
    pub async fn checkpoints_by_size(
        &mut self,
        (size, epoch, signed_at): (u64, u64, Timestamp),
        limit: i64,
    ) -> Result<Vec<Kept>, Error> {
        const SQL: &str = "select epoch, size, note, signed_at, stamp from checkpoint
            where (size, epoch, signed_at) > ($1, $2, $3) order by size, epoch, signed_at limit $4";
        let rows: Vec<CheckpointRow> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(signed(size))
            .bind(signed(epoch))
            .bind(signed_at)
            .bind(limit)
            .fetch_all(conn)
            .await?);
        Ok(rows.into_iter().map(checkpoint).collect())
    }

    /// Returns checkpoints over at least `from` and at most `to` events, by size, epoch and time.
    pub async fn checkpoints_between(&mut self, from: u64, to: u64) -> Result<Vec<Kept>, Error> {
        const SQL: &str = "select epoch, size, note, signed_at, stamp from checkpoint
            where size between $1 and $2 order by size, epoch, signed_at";
        let rows: Vec<CheckpointRow> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(signed(from))
            .bind(signed(to))
            .fetch_all(conn)
            .await?);
        Ok(rows.into_iter().map(checkpoint).collect())
    }
}

fn head(mut rows: Vec<(i64, i64)>) -> Result<Head, Error> {
    let (size, epoch) = rows
        .pop()
        .ok_or_else(|| Error::corrupt("the trail has no head"))?;
    Ok(Head {
        size: size.unsigned_abs(),
        epoch: epoch.unsigned_abs(),
    })
}
