//! Import: settings of Delivery Optimization as Windows tools write them, made into a policy file.
//!
//! - a registry export (`regedit`, `reg export`): [`reg`]
//! - Intune JSON, settings catalog or OMA-URI: [`intune`]
//! - `Get-DOConfig -Verbose | ConvertTo-Json`: [`do_config`]
//!
//! Nothing is dropped in silence: whatever has no meaning here, is out of range or unknown is told with its place.

mod collect;
mod do_config;
mod hours;
mod intune;
mod reg;
mod text;

use serde::Serialize;

use crate::layer::Layer;

/// The most bytes that are read.
pub const MAX_IMPORT: usize = 4 << 20;
/// Remarks beyond this are counted, not told.
const MAX_REMARKS: usize = 1000;

/// The input is none of the known forms.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// More bytes than allowed.
    #[error("{found} bytes, allowed are {MAX_IMPORT}")]
    TooLarge {
        /// Its bytes.
        found: usize,
    },
    /// No text in any encoding that the tools use.
    #[error("not text: allowed are UTF-8 and UTF-16 with its byte order mark, found {found}")]
    NotText {
        /// What was found.
        found: &'static str,
    },
    /// JSON that cannot be read.
    #[error("line {line}: {message}")]
    Json {
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// Something else.
    #[error(
        "neither a registry export (\"Windows Registry Editor Version 5.00\") nor JSON of Intune or Get-DOConfig: it begins \
         with {found:?}"
    )]
    Unknown {
        /// Its beginning.
        found: String,
    },
}

/// Something that did not become a setting as it stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Remark {
    /// Where: a line, or the way through the JSON.
    pub place: String,
    /// What was found and what became of it.
    pub sentence: String,
}

/// What came of an import.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Imported {
    /// The settings.
    pub layer: Layer,
    /// What else there was.
    pub remarks: Vec<Remark>,
    /// Further remarks than are told.
    pub more: usize,
}

/// Reads settings of Delivery Optimization from what a Windows tool wrote.
///
/// # Errors
/// It is no such file; a single value that does not fit is no error but a remark.
pub fn import(bytes: &[u8]) -> Result<Imported, ImportError> {
    if bytes.len() > MAX_IMPORT {
        return Err(ImportError::TooLarge { found: bytes.len() });
    }
    let text = text::decode(bytes)?;
    let mut found = collect::Collector::default();
    let start = text.trim_start();
    if reg::is_export(start) {
        reg::read(&text, &mut found);
    } else if start.starts_with(['{', '[']) {
        let json: serde_json::Value = serde_json::from_str(&text)
            .map_err(|error| ImportError::Json { line: error.line(), message: error.to_string() })?;
        if intune::is_export(&json) {
            intune::read(&json, &mut found);
        } else {
            do_config::read(&json, &mut found);
        }
    } else {
        return Err(ImportError::Unknown { found: start.chars().take(40).collect() });
    }
    Ok(found.finish())
}

#[cfg(test)]
mod tests;
