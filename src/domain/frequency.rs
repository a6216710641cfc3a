//! How often a list's mails come, as far as it is promised.

use serde::{Deserialize, Serialize};

/// A promised frequency that has words in every language: every so many of one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frequency {
    /// How many units lie between two mails.
    pub count: u32,
    /// The unit.
    pub unit: Unit,
}

/// A unit of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Days.
    Day,
    /// Weeks.
    Week,
    /// Months.
    Month,
    /// Years.
    Year,
}

impl Unit {
    /// Returns the name that texts are found under.
    pub fn as_str(self) -> &'static str {
        match self {
            Unit::Day => "day",
            Unit::Week => "week",
            Unit::Month => "month",
            Unit::Year => "year",
        }
    }
}

impl Frequency {
    /// Reads an ISO 8601 span of one unit (`P7D`, `P2W`, `P1M`); whole weeks of days become weeks.
    ///
    /// None for spans of several units, or of hours: configuration refuses them.
    pub fn parse(text: &str) -> Option<Self> {
        let number = text.strip_prefix('P')?;
        let (number, letter) = number.split_at_checked(number.len().checked_sub(1)?)?;
        let count: u32 = number.parse().ok().filter(|count| *count > 0)?;
        let (count, unit) = match letter {
            "D" if count.is_multiple_of(7) => (count / 7, Unit::Week),
            "D" => (count, Unit::Day),
            "W" => (count, Unit::Week),
            "M" => (count, Unit::Month),
            "Y" => (count, Unit::Year),
            _ => return None,
        };
        Some(Self { count, unit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_have_one_unit() {
        let read = |text| Frequency::parse(text).map(|f| (f.count, f.unit));
        assert_eq!(read("P7D"), Some((1, Unit::Week)));
        assert_eq!(read("P2W"), Some((2, Unit::Week)));
        assert_eq!(read("P80D"), Some((80, Unit::Day)));
        assert_eq!(read("P1M"), Some((1, Unit::Month)));
        for odd in [
            "P1M2D", "PT5H", "P1DT1H", "P0D", "-P7D", "P", "P7", "PD", "weekly",
        ] {
            assert_eq!(read(odd), None, "{odd}");
        }
    }
}
