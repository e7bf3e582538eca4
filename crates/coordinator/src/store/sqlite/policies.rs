//! Fleet policies in SQLite.

use peerage_policy::fleet::{Revision, Selector};
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use super::{Sqlite, int, query};
use crate::store::{NewPolicy, Policies, Published, StoreError, Stored};

const READ: &str = "read policies";

/// One row as it stands.
struct Raw {
    serial: i64,
    selector: String,
    percent: i64,
    text: String,
    created: i64,
    note: String,
}

impl FromRow<'_, SqliteRow> for Raw {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            serial: row.try_get("serial")?,
            selector: row.try_get("selector")?,
            percent: row.try_get("percent")?,
            text: row.try_get("text")?,
            created: row.try_get("created")?,
            note: row.try_get("note")?,
        })
    }
}

impl Raw {
    fn checked(self) -> Result<Published, StoreError> {
        let damaged = || StoreError::Damaged { action: READ };
        let revision = Revision {
            serial: u64::try_from(self.serial).map_err(|_| damaged())?,
            selector: self.selector.parse().map_err(|_| damaged())?,
            percent: u8::try_from(self.percent).map_err(|_| damaged())?,
            text: self.text,
        };
        let created = u64::try_from(self.created).map_err(|_| damaged())?;
        Ok(Published { revision, created, note: self.note })
    }
}

fn checked(rows: Vec<Raw>) -> Result<Vec<Published>, StoreError> {
    rows.into_iter().map(Raw::checked).collect()
}

impl Policies for Sqlite {
    fn publish(&self, new: NewPolicy, now: u64) -> Stored<'_, Published> {
        Box::pin(async move {
            let fail = query("publish a policy");
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(&fail)?;
            let row: Raw = sqlx::query_as(
                "INSERT INTO policies (serial, selector, percent, text, created, note)
                 SELECT max(coalesce((SELECT max(serial) FROM policies), 0) + 1, ?), ?, ?, ?, ?, ?
                 RETURNING *",
            )
            .bind(int(new.min_serial))
            .bind(new.selector.to_string())
            .bind(i64::from(new.percent))
            .bind(&new.text)
            .bind(int(now))
            .bind(&new.note)
            .fetch_one(&mut *transaction)
            .await
            .map_err(&fail)?;
            transaction.commit().await.map_err(&fail)?;
            row.checked()
        })
    }

    fn live(&self) -> Stored<'_, Vec<Published>> {
        Box::pin(async {
            let rows = sqlx::query_as(
                "SELECT * FROM policies AS one WHERE serial >= coalesce(
                     (SELECT max(serial) FROM policies WHERE selector = one.selector AND percent = 100), 0)
                 ORDER BY serial DESC",
            );
            checked(rows.fetch_all(&self.pool).await.map_err(query(READ))?)
        })
    }

    fn history<'a>(&'a self, selector: Option<&'a Selector>, limit: u32) -> Stored<'a, Vec<Published>> {
        Box::pin(async move {
            let rows = sqlx::query_as(
                "SELECT * FROM policies WHERE ?1 IS NULL OR selector = ?1 ORDER BY serial DESC LIMIT ?2",
            )
            .bind(selector.map(ToString::to_string))
            .bind(i64::from(limit));
            checked(rows.fetch_all(&self.pool).await.map_err(query(READ))?)
        })
    }
}
