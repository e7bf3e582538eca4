//! Hard state: what must survive (architecture §5). Three small traits, one backend so far ([`Sqlite`]), and for each
//! trait a conformance suite that every backend has to pass.

mod catalog;
mod enrolments;
mod policies;
mod sqlite;

use futures_util::future::BoxFuture;

pub(crate) use catalog::{Catalog, Terms};
pub(crate) use enrolments::{Applicant, Denied, Enrolled, Enrolments, TokenTerms};
pub(crate) use policies::{NewPolicy, Policies, Published};
pub(crate) use sqlite::Sqlite;

/// The database failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be opened.
    #[error("could not open database {path:?}")]
    Open {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// It was made by a newer version.
    #[error("database {path:?} has schema {found}, this version knows {known}")]
    Newer {
        /// The file.
        path: std::path::PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema known here.
        known: i64,
    },
    /// A statement failed.
    #[error("could not {action}")]
    Query {
        /// What was being done.
        action: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// A row is not what was written.
    #[error("could not {action}: the row is damaged")]
    Damaged {
        /// What was being done.
        action: &'static str,
    },
}

/// The answer of a backend.
pub(crate) type Stored<'a, T> = BoxFuture<'a, Result<T, StoreError>>;
