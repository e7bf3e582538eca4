//! Business hours: one policy of four elements (DO reference §1.5), which the forms spell as five values.

use toml::Value;

use crate::Hours;

/// One of the values of a class's hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HalfOf {
    /// Whether the hours are used at all.
    Enabled,
    From,
    To,
    In,
    Out,
}

const STEMS: [&str; 2] =
    ["sethourstolimitforegrounddownloadbandwidth", "sethourstolimitbackgrounddownloadbandwidth"];

impl HalfOf {
    /// Which class (0 foreground, 1 background) and value a name means. `Get-DOConfig` shortens the names.
    pub(super) fn find(name: &str) -> Option<(usize, Self)> {
        let name = name.to_ascii_lowercase().replace('_', "");
        let (class, before, rest) = STEMS.iter().enumerate().find_map(|(class, stem)| {
            let (before, rest) = name.rsplit_once(stem)?;
            Some((class, before, rest))
        })?;
        // An element of the settings catalog has its policy's name before its own.
        let own = before.trim_start_matches("do");
        if !(own.is_empty() || own == STEMS[class]) {
            return None;
        }
        let part = match rest {
            "" => Self::Enabled,
            "from" => Self::From,
            "to" => Self::To,
            "in" => Self::In,
            "out" => Self::Out,
            _ => return None,
        };
        Some((class, part))
    }
}

/// The hours of one class as far as they are known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Half {
    place: String,
    disabled: bool,
    seen: bool,
    parts: [Option<u8>; 4],
}

impl Half {
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn take(&mut self, part: HalfOf, place: &str, value: &Value) -> Result<(), String> {
        (self.place, self.seen) = (place.to_owned(), true);
        if let (HalfOf::Enabled, Some(table)) = (part, value.as_table()) {
            return self.whole(&Hours::read(table).map_err(|part| format!("found {part}"))?);
        }
        if let (HalfOf::Enabled, Some(text)) = (part, value.as_str())
            && text.trim_start().starts_with('<')
        {
            return self.admx(text);
        }
        let most = if matches!(part, HalfOf::In | HalfOf::Out) { 100 } else { 23 };
        let number = value.as_integer().or_else(|| value.as_str()?.trim().parse().ok());
        let number = number.and_then(|number| u8::try_from(number).ok());
        let slot = match part {
            HalfOf::Enabled => {
                self.disabled = number == Some(0);
                return match number {
                    Some(0 | 1) => Ok(()),
                    _ => Err(format!("found {value}, allowed is 1 (used) or 0")),
                };
            }
            HalfOf::From => 0,
            HalfOf::To => 1,
            HalfOf::In => 2,
            HalfOf::Out => 3,
        };
        match number.filter(|number| *number <= most) {
            Some(number) => {
                self.parts[slot] = Some(number);
                Ok(())
            }
            None => Err(format!("found {value}, allowed is 0 to {most}")),
        }
    }

    fn whole(&mut self, hours: &Hours) -> Result<(), String> {
        self.parts = [hours.from, hours.to, hours.inside, hours.outside].map(Some);
        Ok(())
    }

    /// The text of an ADMX-backed policy: `<enabled/>` and `<data id="…From" value="8"/>` for each element.
    fn admx(&mut self, text: &str) -> Result<(), String> {
        if text.contains("<disabled") {
            self.disabled = true;
            return Ok(());
        }
        let place = self.place.clone();
        for data in text.split("<data").skip(1).take(16) {
            let attribute = |name: &str| {
                let (_, rest) = data.split_once(name)?;
                let rest = rest.trim_start().strip_prefix('=')?.trim_start();
                let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
                rest.get(1..)?.split_once(quote).map(|(value, _)| value)
            };
            let (Some(id), Some(value)) = (attribute("id"), attribute("value")) else {
                return Err("an element without id and value".to_owned());
            };
            match HalfOf::find(id) {
                Some((_, part)) if part != HalfOf::Enabled => {
                    self.take(part, &place, &Value::String(value.to_owned()))?
                }
                _ => return Err(format!("unknown element {:?}", super::collect::shown(id))),
            }
        }
        Ok(())
    }

    /// The hours, if anything was said of them.
    pub(super) fn finish(self) -> Option<Result<Hours, String>> {
        if !self.seen {
            return None;
        }
        if self.disabled {
            return Some(Err("the hours are switched off, so nothing is set".to_owned()));
        }
        Some(match self.parts {
            [Some(from), Some(to), Some(inside), Some(outside)] => {
                Ok(Hours { from, to, inside, outside, days: crate::Days::ALL, time_zone: None })
            }
            _ => Err("without all of from, to, in, out; not taken".to_owned()),
        })
    }
}
