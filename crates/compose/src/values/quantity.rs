//! Amounts: memory, time, processors.

use super::{Word, WordError, quoted, word};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// An amount of memory or disk in bytes: `1048576`, `64K`, `512M`, `1.5G`. Units are powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

/// A length of time in milliseconds: `500ms`, `10s`, `1.5m`, `2h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period {
    /// The length in milliseconds.
    pub ms: u64,
}

/// A number of CPUs in thousandths: `2`, `1.5`, `0.25`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cpus {
    /// The number in thousandths.
    pub milli: u32,
}

/// Longest length of time that a manifest may name: a year. Sums of two stay far from overflow.
const PERIOD_MS_MAX: u64 = 366 * 24 * 3_600_000;

/// Most CPUs: what Linux can be built for.
const CPUS_MILLI_MAX: u64 = 8192 * 1000;

const SIZE_FORM: &str = "a size such as \"512M\" or \"1.5G\"";
word!(
    Size,
    "Size",
    SIZE_FORM,
    "^[0-9]+(\\.[0-9]{0,3})?([KMGT]i?)?B?$",
    ["string", "integer"]
);

impl FromStr for Size {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let (number, unit) = split_unit(text);
        let unit = match unit.to_ascii_uppercase().as_str() {
            "" | "B" => 1_u64,
            "K" | "KB" | "KIB" => 1 << 10,
            "M" | "MB" | "MIB" => 1 << 20,
            "G" | "GB" | "GIB" => 1 << 30,
            "T" | "TB" | "TIB" => 1 << 40,
            _ => return Err(refused::<Self>("size", text)),
        };
        let bytes = thousandths(number).and_then(|number| number.checked_mul(unit));
        match bytes.map(|bytes| bytes / 1000) {
            Some(bytes) if bytes > 0 => Ok(Self(bytes)),
            _ => Err(refused::<Self>("size", text)),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
        let whole = |&(shift, _): &(u32, &str)| self.0 >> shift << shift == self.0 && self.0 > 0;
        match units.into_iter().find(|unit| whole(unit)) {
            Some((shift, unit)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Period {
    /// The length for the clock of whoever waits.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.ms)
    }

    /// So many seconds.
    #[must_use]
    pub const fn seconds(seconds: u32) -> Self {
        Self {
            ms: seconds as u64 * 1000,
        }
    }
}

const PERIOD_FORM: &str = "a length of time such as \"500ms\", \"10s\", \"5m\" or \"1h\"";
word!(
    Period,
    "Period",
    PERIOD_FORM,
    "^[0-9]+(\\.[0-9]{0,3})?(ms|s|m|h)$"
);

impl FromStr for Period {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let (number, unit) = split_unit(text);
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(refused::<Self>("length of time", text)),
        };
        let ms = thousandths(number).and_then(|number| number.checked_mul(unit_ms));
        match ms.map(|ms| ms / 1000) {
            Some(ms) if ms <= PERIOD_MS_MAX => Ok(Self { ms }),
            Some(_) => Err(WordError::new(
                format!("{} is more than a year", quoted(text)),
                "write a shorter time",
            )),
            None => Err(refused::<Self>("length of time", text)),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(3_600_000, "h"), (60_000, "m"), (1000, "s")];
        let whole = |&(unit, _): &(u64, &str)| self.ms.is_multiple_of(unit) && self.ms > 0;
        match units.into_iter().find(|unit| whole(unit)) {
            Some((unit, letter)) => write!(f, "{}{letter}", self.ms / unit),
            None => write!(f, "{}ms", self.ms),
        }
    }
}

impl Word for Cpus {
    const FORM: &'static str = "a number of CPUs such as 2 or 0.5";
}

impl FromStr for Cpus {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        match thousandths(text) {
            Some(milli) if (1..=CPUS_MILLI_MAX).contains(&milli) => Ok(Self {
                milli: u32::try_from(milli).unwrap_or(u32::MAX),
            }),
            _ => Err(refused::<Self>("number of CPUs", text)),
        }
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.milli / 1000, self.milli % 1000);
        if fraction == 0 {
            return write!(f, "{whole}");
        }
        let fraction = format!("{fraction:03}");
        write!(f, "{whole}.{}", fraction.trim_end_matches('0'))
    }
}

impl serde::Serialize for Cpus {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.milli) / 1000.0)
    }
}

impl<'de> serde::Deserialize<'de> for Cpus {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        number.to_string().parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Cpus {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cpus".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "number",
            "description": "A number of CPUs such as 2 or 0.5, to a thousandth.",
            "exclusiveMinimum": 0,
            "maximum": 8192,
        })
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    (number, &text[number.len()..])
}

/// A decimal number with at most three digits behind the point, times 1000.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 3 {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(1000)?;
    whole.checked_add(format!("{fraction:0<3}").parse().ok()?)
}

fn refused<T: Word>(what: &str, text: &str) -> WordError {
    WordError::new(
        format!("{} is no {what}", quoted(text)),
        format!("write {}", T::FORM),
    )
}
