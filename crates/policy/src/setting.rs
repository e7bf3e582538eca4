//! One row of the table of settings, and how its rows are named.

use crate::choice::Choice;
use crate::rule::{Rule, Unit};
use crate::table::{Key, TABLE};

/// What the table says about one setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Its key.
    pub key: Key,
    /// Our name: DO's in snake_case without `DO`.
    pub name: &'static str,
    /// DO's name of the policy (`DODownloadMode`); `None`: DO has no such policy.
    pub do_name: Option<&'static str>,
    /// The field's name in `peerage config --json`: as `Get-DOConfig` has it, else DO's policy without `DO`, else ours.
    pub field: &'static str,
    /// What it does, in sentences.
    pub doc: &'static str,
    /// What its value may be.
    pub rule: Rule,
    /// What the number 0 means, where it is no plain number.
    pub zero: Option<&'static str>,
    /// Whether DO has deprecated it.
    pub deprecated: bool,
}

impl Setting {
    /// Finds a row by our name or by DO's. Case does not matter: names in the Windows registry have none.
    pub fn find(name: &str) -> Option<&'static Self> {
        let is = |known: &str| known.eq_ignore_ascii_case(name);
        TABLE.iter().find(|row| is(row.name) || row.do_name.is_some_and(is))
    }

    /// Our name of the setting that was perhaps meant by `name`.
    pub fn nearest(name: &str) -> Option<&'static str> {
        let likeness = |row: &Self| {
            let ours = strsim::jaro_winkler(row.name, &name.to_ascii_lowercase());
            ours.max(row.do_name.map_or(0.0, |theirs| strsim::jaro_winkler(theirs, name)))
        };
        let ranked = TABLE.iter().map(|row| (likeness(row), row.name));
        ranked.filter(|(like, _)| *like > 0.9).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
    }
}

/// The columns of a row that need writing down; the others follow from its key and field.
pub(crate) struct Spec {
    pub(crate) rule: Rule,
    pub(crate) field: Option<&'static str>,
    pub(crate) zero: Option<&'static str>,
    pub(crate) deprecated: bool,
    pub(crate) ours: bool,
}

impl Spec {
    pub(crate) const fn of(rule: Rule) -> Self {
        Self { rule, field: None, zero: None, deprecated: false, ours: false }
    }

    pub(crate) const fn number(unit: Unit, min: u64, max: u64) -> Self {
        Self::of(Rule::Number { unit, min, max })
    }

    pub(crate) const fn choice(choices: &'static [Choice]) -> Self {
        Self::of(Rule::Choice(choices))
    }

    /// `Get-DOConfig` calls it otherwise than the policy (DO reference §4.4).
    pub(crate) const fn reported_as(mut self, field: &'static str) -> Self {
        self.field = Some(field);
        self
    }

    pub(crate) const fn zero_is(mut self, meaning: &'static str) -> Self {
        self.zero = Some(meaning);
        self
    }

    pub(crate) const fn deprecated(mut self) -> Self {
        self.deprecated = true;
        self
    }

    /// DO has no such policy.
    pub(crate) const fn ours(mut self) -> Self {
        self.ours = true;
        self
    }

    pub(crate) const fn row(
        self,
        key: Key,
        name: &'static str,
        pascal: &'static str,
        do_name: &'static str,
        doc: &'static str,
    ) -> Setting {
        let field = match self.field {
            Some(field) => field,
            None => pascal,
        };
        let do_name = if self.ours { None } else { Some(do_name) };
        let (rule, zero, deprecated) = (self.rule, self.zero, self.deprecated);
        Setting { key, name, do_name, field, doc: doc.trim_ascii(), rule, zero, deprecated }
    }
}
