//! Instants, as whole microseconds since 1970 in UTC.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// One instant in UTC, to the microsecond; what both databases store exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Builds an instant from microseconds since 1970-01-01T00:00:00Z.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Returns microseconds since 1970-01-01T00:00:00Z.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Returns whole seconds since 1970, rounded down: what a token carries.
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Returns the beginning of its minute: as much of it as mails say.
    pub const fn minute(self) -> Self {
        const MINUTE: i64 = 60_000_000;
        Self(self.0.div_euclid(MINUTE) * MINUTE)
    }

    /// Builds an instant from whole seconds since 1970.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Parses RFC 3339 with any offset.
    ///
    /// # Errors
    /// When the text is not an RFC 3339 date and time with an offset.
    pub fn parse(text: &str) -> Result<Self, InvalidTime> {
        // jiff reads more of ISO 8601, and time zones.
        if !is_rfc3339(text) {
            return Err(InvalidTime);
        }
        let at: jiff::Timestamp = text.parse().map_err(|_| InvalidTime)?;
        Ok(Self(at.as_microsecond()))
    }

    /// Returns the same instant for calendar arithmetic and formatting.
    pub fn to_jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(self.0).unwrap_or(jiff::Timestamp::MAX)
    }

    /// Returns how long `earlier` lies behind this instant; zero when it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(micros(rhs)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(micros(rhs)))
    }
}

/// Tells whether a text has the form of a date-time (RFC 3339, section 5.6), in letters of either case.
fn is_rfc3339(text: &str) -> bool {
    let form = text.replace(|c: char| c.is_ascii_digit(), "0");
    let form = form.to_ascii_uppercase();
    let Some(rest) = form.strip_prefix("0000-00-00T00:00:00") else {
        return false;
    };
    let fraction = rest.strip_prefix(".0");
    let offset = fraction.map_or(rest, |more| more.trim_start_matches('0'));
    matches!(offset, "Z" | "+00:00" | "-00:00")
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// RFC 3339 in UTC with six decimals, so that texts sort as instants do.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.to_jiff())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

/// The text is not an RFC 3339 date and time.
#[derive(Debug, thiserror::Error)]
#[error("not an RFC 3339 date and time with an offset, as in 2026-11-23T09:00:00Z")]
pub struct InvalidTime;

/// Parses a span as configuration writes it: ISO 8601 (`P7D`, `PT10M`) or words (`10 minutes`, `7 days`).
///
/// Days are 24 hours, weeks 7 days; months and years have no fixed length and are refused.
///
/// # Errors
/// When the text is no span, is negative, or holds months or years.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    let span: jiff::Span = text.parse().map_err(|_| InvalidDuration)?;
    let exact = span
        .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .map_err(|_| InvalidDuration)?;
    Duration::try_from(exact).map_err(|_| InvalidDuration)
}

/// The text is not a span of fixed length.
#[derive(Debug, thiserror::Error)]
#[error("not a span of time: write it as \"P7D\", \"PT10M\", \"7 days\" or \"10 minutes\"")]
pub struct InvalidDuration;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_sort_as_instants() {
        let at = Timestamp::parse("2026-11-23T10:00:00+01:00").unwrap();
        assert_eq!(at.to_string(), "2026-11-23T09:00:00.000000Z");
        assert_eq!(Timestamp::from_seconds(at.as_seconds()), at);
    }

    #[test]
    fn only_rfc_3339_is_read() {
        let at = Timestamp::parse("2026-11-23T09:00:00Z").unwrap();
        for same in [
            "2026-11-23t09:00:00z",
            "2026-11-23T09:00:00.000Z",
            "2026-11-23T10:30:00+01:30",
            "2026-11-23T09:00:00-00:00",
        ] {
            assert_eq!(Timestamp::parse(same).unwrap(), at, "{same}");
        }
        for other in [
            "",
            "20261123T090000Z",
            "2026-11-23T09:00Z",
            "2026-11-23 09:00:00Z",
            "2026-11-23T09:00:00",
            "2026-11-23T09:00:00.Z",
            "2026-11-23T09:00:00,5Z",
            "2026-11-23T09:00:00+01",
            "2026-11-23T09:00:00Z[Europe/Amsterdam]",
            "+002026-11-23T09:00:00Z",
            "2026-13-23T09:00:00Z",
        ] {
            assert!(Timestamp::parse(other).is_err(), "{other}");
        }
    }

    #[test]
    fn durations_have_a_fixed_length() {
        assert_eq!(parse_duration("P7D").unwrap(), Duration::from_secs(604_800));
        assert_eq!(
            parse_duration("10 minutes").unwrap(),
            Duration::from_secs(600)
        );
        assert!(parse_duration("P1M").is_err());
        assert!(parse_duration("-PT1S").is_err());
    }
}
