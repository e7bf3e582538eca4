//! The catalog in SQLite.

use peerage_content::{ContentId, ContentRecord, ScopeSet, Sha256, Signed};
use sqlx::{QueryBuilder, Row};

use super::{Sqlite, bytes32, int, query};
use crate::store::{Catalog, StoreError, Stored, Terms};

/// Ids in one statement; SQLite allows 32,766 parameters.
const BATCH: usize = 500;

impl Catalog for Sqlite {
    fn next_serial(&self) -> Stored<'_, u64> {
        Box::pin(async {
            let (value,): (i64,) = sqlx::query_as(
                "INSERT INTO counters (name, value) VALUES ('serial', 1)
                 ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value",
            )
            .fetch_one(&self.pool)
            .await
            .map_err(query("count serials"))?;
            u64::try_from(value).map_err(|_| StoreError::Damaged { action: "count serials" })
        })
    }

    fn put<'a>(&'a self, signed: &'a Signed<ContentRecord>) -> Stored<'a, ()> {
        Box::pin(async move {
            let (record, fail) = (signed.get(), query("keep a record"));
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(&fail)?;
            sqlx::query(
                "INSERT INTO records (serial, content, sha256, scopes, not_after, signed)
                 VALUES (?, ?, ?, ?, ?, ?)",
            )
            .bind(int(record.serial))
            .bind(&record.id.as_bytes()[..])
            .bind(&record.sha256.as_bytes()[..])
            .bind(i64::from(record.scopes.bits()))
            .bind(int(record.not_after))
            .bind(signed.as_bytes())
            .execute(&mut *transaction)
            .await
            .map_err(&fail)?;
            for url in &record.urls {
                sqlx::query(
                    "INSERT INTO urls (url, serial) VALUES (?, ?)
                     ON CONFLICT (url) DO UPDATE SET serial = excluded.serial WHERE excluded.serial > serial",
                )
                .bind(url)
                .bind(int(record.serial))
                .execute(&mut *transaction)
                .await
                .map_err(&fail)?;
            }
            transaction.commit().await.map_err(fail)
        })
    }

    fn by_url<'a>(&'a self, url: &'a str) -> Stored<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            let row: Option<(Vec<u8>,)> =
                sqlx::query_as("SELECT signed FROM records JOIN urls USING (serial) WHERE url = ?")
                    .bind(url)
                    .fetch_optional(&self.pool)
                    .await
                    .map_err(query("look up a url"))?;
            Ok(row.map(|(signed,)| signed))
        })
    }

    fn by_id(&self, id: ContentId) -> Stored<'_, Option<Vec<u8>>> {
        Box::pin(async move {
            let row: Option<(Vec<u8>,)> =
                sqlx::query_as("SELECT signed FROM records WHERE content = ? ORDER BY serial DESC LIMIT 1")
                    .bind(&id.as_bytes()[..])
                    .fetch_optional(&self.pool)
                    .await
                    .map_err(query("look up a content id"))?;
            Ok(row.map(|(signed,)| signed))
        })
    }

    fn by_sha256(&self, sha256: Sha256) -> Stored<'_, Option<Vec<u8>>> {
        Box::pin(async move {
            let row: Option<(Vec<u8>,)> =
                sqlx::query_as("SELECT signed FROM records WHERE sha256 = ? ORDER BY serial DESC LIMIT 1")
                    .bind(&sha256.as_bytes()[..])
                    .fetch_optional(&self.pool)
                    .await
                    .map_err(query("look up a sha-256"))?;
            Ok(row.map(|(signed,)| signed))
        })
    }

    fn terms<'a>(&'a self, ids: &'a [ContentId]) -> Stored<'a, Vec<Option<Terms>>> {
        Box::pin(async move {
            let action = "look up terms";
            let mut found = std::collections::HashMap::with_capacity(ids.len());
            for batch in ids.chunks(BATCH) {
                // With a bare max() SQLite takes the other columns from the row that has it.
                let mut select = QueryBuilder::new(
                    "SELECT content, max(serial), scopes, not_after FROM records WHERE content IN (",
                );
                let mut list = select.separated(", ");
                for id in batch {
                    list.push_bind(&id.as_bytes()[..]);
                }
                select.push(") GROUP BY content");
                for row in select.build().fetch_all(&self.pool).await.map_err(query(action))? {
                    let id = bytes32(row.try_get(0).map_err(query(action))?, action)?;
                    let scopes: i64 = row.try_get(2).map_err(query(action))?;
                    let not_after: i64 = row.try_get(3).map_err(query(action))?;
                    let damaged = |_| StoreError::Damaged { action };
                    let terms = Terms {
                        scopes: ScopeSet::from_bits(u8::try_from(scopes).map_err(damaged)?),
                        not_after: u64::try_from(not_after).map_err(damaged)?,
                    };
                    found.insert(ContentId::from_bytes(id), terms);
                }
            }
            Ok(ids.iter().map(|id| found.get(id).copied()).collect())
        })
    }

    fn forget_url<'a>(&'a self, url: &'a str, serial: u64) -> Stored<'a, ()> {
        Box::pin(async move {
            sqlx::query("DELETE FROM urls WHERE url = ? AND serial = ?")
                .bind(url)
                .bind(int(serial))
                .execute(&self.pool)
                .await
                .map_err(query("forget a url"))?;
            Ok(())
        })
    }

    fn purge(&self, time: u64) -> Stored<'_, Vec<ContentId>> {
        Box::pin(async move {
            let (action, time) = ("drop old records", int(time));
            let fail = query(action);
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(&fail)?;
            let gone: Vec<(Vec<u8>,)> = sqlx::query_as(
                "SELECT content FROM records GROUP BY content HAVING max(not_after) < ? ORDER BY content",
            )
            .bind(time)
            .fetch_all(&mut *transaction)
            .await
            .map_err(&fail)?;
            sqlx::query("DELETE FROM records WHERE not_after < ?")
                .bind(time)
                .execute(&mut *transaction)
                .await
                .map_err(&fail)?;
            transaction.commit().await.map_err(&fail)?;
            gone.iter().map(|(id,)| bytes32(id, action).map(ContentId::from_bytes)).collect()
        })
    }

    fn count(&self) -> Stored<'_, u64> {
        Box::pin(async {
            let (count,): (i64,) = sqlx::query_as("SELECT count(DISTINCT content) FROM records")
                .fetch_one(&self.pool)
                .await
                .map_err(query("count contents"))?;
            Ok(u64::try_from(count).unwrap_or(0))
        })
    }
}
