//! How values of the domain stand in columns of either database.

use serde::Serialize;
use serde_json::value::to_raw_value;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef};
use sqlx::sqlite::{SqliteArgumentsBuffer, SqliteTypeInfo, SqliteValueRef};
use sqlx::types::{Json, JsonRawValue};
use sqlx::{Decode, Encode, Postgres, Sqlite, Type};

use super::Error;
use crate::domain::consent::Hash;
use crate::domain::pepper::Keyed;
use crate::domain::time::Timestamp;

/// PostgreSQL counts from 2000-01-01.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

impl Type<Postgres> for Timestamp {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("timestamptz")
    }
}

impl PgHasArrayType for Timestamp {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("_timestamptz")
    }
}

impl Encode<'_, Postgres> for Timestamp {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let micros = self.as_micros() - POSTGRES_EPOCH;
        Encode::<Postgres>::encode_by_ref(&micros, buffer)
    }
}

impl Decode<'_, Postgres> for Timestamp {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        let micros = <i64 as Decode<Postgres>>::decode(value)?;
        Ok(Self::from_micros(micros + POSTGRES_EPOCH))
    }
}

impl Type<Sqlite> for Timestamp {
    fn type_info() -> SqliteTypeInfo {
        <i64 as Type<Sqlite>>::type_info()
    }
}

impl Encode<'_, Sqlite> for Timestamp {
    fn encode_by_ref(&self, buffer: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Sqlite>::encode_by_ref(&self.as_micros(), buffer)
    }
}

impl Decode<'_, Sqlite> for Timestamp {
    fn decode(value: SqliteValueRef<'_>) -> Result<Self, BoxDynError> {
        <i64 as Decode<Sqlite>>::decode(value).map(Self::from_micros)
    }
}

/// Reads a keyed hash from its column.
pub(super) fn keyed(bytes: Vec<u8>) -> Result<Keyed, Error> {
    let bytes = bytes.try_into();
    bytes
        .map(Keyed)
        .map_err(|_| Error::corrupt("a keyed hash has another length than 16"))
}

/// Reads a SHA-256 from its column.
pub(super) fn hash(bytes: Vec<u8>) -> Result<Hash, Error> {
    let bytes = bytes.try_into();
    bytes
        .map(Hash)
        .map_err(|_| Error::corrupt("a hash has another length than 32"))
}

/// Reads a member of a closed set, or a name, from its column.
pub(super) fn named<T>(text: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<T, Error> {
    read(text).ok_or_else(|| Error::corrupt("a column holds a name that is not known"))
}

/// Reads a parsed value from its column.
pub(super) fn parsed<T: std::str::FromStr>(text: &str) -> Result<T, Error> {
    named(text, |text| text.parse().ok())
}

/// The text of a JSON column, made of a value without a tree between them.
pub(super) type Document = Json<Box<JsonRawValue>>;

/// Makes it.
pub(super) fn document<T: Serialize>(value: &T) -> Option<Document> {
    to_raw_value(value).ok().map(Json)
}
