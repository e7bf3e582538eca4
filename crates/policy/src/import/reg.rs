//! Registry exports: what `regedit` and `reg export` write.
//!
//! Lines end in CRLF or LF; `\` at the end goes on in the next line; `"name"=type:data`. Types: `"text"` with `\\` and
//! `\"`, `dword:` in hex, `hex(T):` with bytes, of which T = b is a little-endian 64-bit number, 1 and 2 are UTF-16LE text and
//! 7 a list of such. `[-key]` and `"name"=-` delete.

use toml::Value;

use super::collect::{Collector, shown};

/// The first lines of an export, of Windows 2000 and later, and of before.
const HEADS: [&str; 2] = ["Windows Registry Editor Version 5.00", "REGEDIT4"];
/// The keys of group policy and of MDM's, and the one of what an administrator set beside them; in lower case and without
/// the hive.
const POLICIES: &str = r"software\policies\microsoft\windows\deliveryoptimization";
const MDM: &str = r"software\microsoft\policymanager\current\device\deliveryoptimization";
/// What MDM notes beside each value.
const NOTES: [&str; 3] = ["_providerset", "_winningprovider", "_admxinstancedata"];
const CONFIG: &str = r"software\microsoft\windows\currentversion\deliveryoptimization\config";
const HIVES: [&str; 2] = [r"hkey_local_machine\", r"hklm\"];

pub(super) fn is_export(text: &str) -> bool {
    HEADS.iter().any(|head| text.starts_with(head))
}

/// What the values of a key are to us.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Policy {
        line: usize,
        notes: usize,
    },
    /// Another key; its values are counted under the line where it stands.
    Elsewhere {
        key: String,
        line: usize,
        values: usize,
    },
    Nowhere,
}

/// Reads every value.
pub(super) fn read(text: &str, found: &mut Collector) {
    let mut place = Place::Nowhere;
    let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim_end_matches('\r')));
    // The head.
    let _ = lines.next();
    while let Some((number, line)) = lines.next() {
        let mut whole = line.trim_start().to_owned();
        if whole.starts_with(';') {
            continue;
        }
        while whole.ends_with('\\') {
            whole.pop();
            match lines.next() {
                Some((_, more)) => whole.push_str(more.trim()),
                None => break,
            }
        }
        let whole = whole.trim_end();
        if whole.is_empty() {
            continue;
        }
        if let Some(key) = whole.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            leave(&place, found);
            place = enter(key, number, found);
            continue;
        }
        match &mut place {
            Place::Policy { notes, .. } if is_note(whole) => *notes += 1,
            Place::Policy { .. } => value(&format!("line {number}"), whole, found),
            Place::Elsewhere { values, .. } => *values += 1,
            Place::Nowhere => {
                found.remark(&format!("line {number}"), format!("{}: stands in no key", shown(whole)));
            }
        }
    }
    leave(&place, found);
}

fn enter(key: &str, line: usize, found: &mut Collector) -> Place {
    if let Some(gone) = key.strip_prefix('-') {
        found.remark(
            &format!("line {line}"),
            format!("{}: the key is deleted, which sets nothing", shown(gone)),
        );
        return Place::Nowhere;
    }
    let lower = key.to_ascii_lowercase();
    let below = HIVES.iter().find_map(|hive| lower.strip_prefix(hive));
    match below {
        Some(key @ (POLICIES | MDM | CONFIG)) => {
            found.set_under(key == CONFIG);
            Place::Policy { line, notes: 0 }
        }
        _ => Place::Elsewhere { key: shown(key), line, values: 0 },
    }
}

fn is_note(line: &str) -> bool {
    name(line).is_some_and(|(name, _)| {
        let name = name.to_ascii_lowercase();
        NOTES.iter().any(|note| name.ends_with(note))
    })
}

fn leave(place: &Place, found: &mut Collector) {
    match place {
        Place::Elsewhere { key, line, values } if *values > 0 => {
            let sentence = format!("{key}: its {values} values are no policies of Delivery Optimization");
            found.remark(&format!("line {line}"), sentence);
        }
        Place::Policy { line, notes } if *notes > 0 => {
            let sentence = format!("{notes} values say which provider of MDM won, which has no meaning here");
            found.remark(&format!("line {line}"), sentence);
        }
        _ => {}
    }
}

fn value(place: &str, line: &str, found: &mut Collector) {
    let Some((name, data)) = name(line) else {
        return found.remark(place, format!("{}: no value of a registry export", shown(line)));
    };
    if name == "@" {
        return found.remark(place, format!("the key's default value ({}) means nothing", shown(data)));
    }
    if data == "-" {
        return found.remark(place, format!("{}: the value is deleted, which sets nothing", shown(&name)));
    }
    match data_of(data) {
        Ok(value) => found.take(place, &name, &value),
        Err(why) => found.remark(place, format!("{} = {}: {why}", shown(&name), shown(data))),
    }
}

/// The name of a value and what stands behind the equals sign.
fn name(line: &str) -> Option<(String, &str)> {
    if let Some(data) = line.strip_prefix('@') {
        return Some(("@".to_owned(), data.trim_start().strip_prefix('=')?.trim()));
    }
    let (name, rest) = quoted(line)?;
    Some((name, rest.trim_start().strip_prefix('=')?.trim()))
}

/// Text in quotes with its escapes, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let rest = text.strip_prefix('"')?;
    let mut out = String::new();
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, rest.get(at + 1..)?)),
            '\\' => out.push(chars.next()?.1),
            c => out.push(c),
        }
    }
    None
}

fn data_of(data: &str) -> Result<Value, &'static str> {
    if data.starts_with('"') {
        return match quoted(data) {
            Some((text, "")) => Ok(Value::String(text)),
            _ => Err("the quotes do not close"),
        };
    }
    let (kind, data) = data.split_once(':').ok_or("no type that a registry export has")?;
    let kind = kind.trim().to_ascii_lowercase();
    if kind == "dword" {
        let number = u32::from_str_radix(data.trim(), 16).map_err(|_| "a dword is up to 8 hex digits")?;
        return Ok(Value::Integer(i64::from(number)));
    }
    let kind = kind.strip_prefix("hex").ok_or("no type that a registry export has")?;
    let bytes = bytes(data)?;
    match kind {
        "(b)" => {
            let bytes = bytes.try_into().map_err(|_| "a qword is 8 bytes")?;
            let number = i64::try_from(u64::from_le_bytes(bytes)).map_err(|_| "beyond every range")?;
            Ok(Value::Integer(number))
        }
        "(4)" => {
            let bytes = bytes.try_into().map_err(|_| "a dword is 4 bytes")?;
            Ok(Value::Integer(i64::from(u32::from_le_bytes(bytes))))
        }
        "(1)" | "(2)" => text(&bytes).map(Value::String),
        "(7)" => {
            let text = text(&bytes)?;
            let items = text.split('\0').filter(|item| !item.is_empty());
            Ok(Value::Array(items.map(Value::from).collect()))
        }
        _ => Err("binary data is no policy's type"),
    }
}

fn bytes(data: &str) -> Result<Vec<u8>, &'static str> {
    let parts = data.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| u8::from_str_radix(part, 16).map_err(|_| "not two hex digits a byte")).collect()
}

/// UTF-16LE without the NULs at its end.
fn text(bytes: &[u8]) -> Result<String, &'static str> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("UTF-16 of an odd number of bytes");
    }
    let units: Vec<u16> = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
    let text = String::from_utf16(&units).map_err(|_| "half a character in UTF-16")?;
    Ok(text.trim_end_matches('\0').to_owned())
}
