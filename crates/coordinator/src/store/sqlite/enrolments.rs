//! Devices and tokens in SQLite.

use peerage_content::PeerId;
use peerage_policy::fleet::Tag;
use sqlx::{Sqlite as Db, Transaction};

use super::{Sqlite, bytes32, int, query};
use crate::store::{Applicant, Denied, Enrolled, Enrolments, StoreError, Stored, TokenTerms};

const ENROL: &str = "enrol a device";

impl Enrolments for Sqlite {
    fn add_token(&self, token: TokenTerms) -> Stored<'_, ()> {
        Box::pin(async move {
            sqlx::query(
                "INSERT INTO tokens (hash, created, expires, uses_left, standing, tags)
                 VALUES (?, ?, ?, ?, 0, ?)",
            )
            .bind(&token.hash[..])
            .bind(int(token.created))
            .bind(token.expires.map(int))
            .bind(token.uses.map(i64::from))
            .bind(joined(&token.tags))
            .execute(&self.pool)
            .await
            .map_err(query("add a token"))?;
            Ok(())
        })
    }

    fn set_standing(&self, hash: [u8; 32], now: u64) -> Stored<'_, ()> {
        Box::pin(async move {
            let fail = query("set the standing token");
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(&fail)?;
            sqlx::query("DELETE FROM tokens WHERE standing = 1 AND hash <> ?")
                .bind(&hash[..])
                .execute(&mut *transaction)
                .await
                .map_err(&fail)?;
            sqlx::query(
                "INSERT INTO tokens (hash, created, standing) VALUES (?, ?, 1) ON CONFLICT (hash) DO NOTHING",
            )
            .bind(&hash[..])
            .bind(int(now))
            .execute(&mut *transaction)
            .await
            .map_err(&fail)?;
            transaction.commit().await.map_err(fail)
        })
    }

    fn enrol<'a>(&'a self, applicant: Applicant<'a>, now: u64) -> Stored<'a, Result<Enrolled, Denied>> {
        Box::pin(async move {
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(query(ENROL))?;
            let answer = enrol(&mut transaction, applicant, now).await?;
            transaction.commit().await.map_err(query(ENROL))?;
            Ok(answer)
        })
    }

    fn devices(&self) -> Stored<'_, Vec<Enrolled>> {
        Box::pin(async {
            let action = "list devices";
            let rows: Vec<(Vec<u8>, String, i64, i64, String)> = sqlx::query_as(
                "SELECT peer, name, enrolled, epoch, tags FROM devices WHERE revoked IS NULL ORDER BY epoch",
            )
            .fetch_all(&self.pool)
            .await
            .map_err(query(action))?;
            rows.into_iter()
                .map(|(peer, name, enrolled, epoch, tags)| {
                    let peer = PeerId::from_bytes(bytes32(&peer, action)?);
                    let (enrolled, epoch, tags) = (time(enrolled)?, time(epoch)?, parted(&tags)?);
                    Ok(Enrolled { peer, name, enrolled, epoch, tags })
                })
                .collect()
        })
    }

    fn revoke(&self, peer: PeerId, now: u64) -> Stored<'_, bool> {
        Box::pin(async move {
            let done = sqlx::query("UPDATE devices SET revoked = ? WHERE peer = ? AND revoked IS NULL")
                .bind(int(now))
                .bind(&peer.as_bytes()[..])
                .execute(&self.pool)
                .await
                .map_err(query("revoke a device"))?;
            Ok(done.rows_affected() > 0)
        })
    }
}

fn time(value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| StoreError::Damaged { action: ENROL })
}

/// Tags in one column: none of them holds a comma.
fn joined(tags: &[Tag]) -> String {
    tags.iter().map(Tag::as_str).collect::<Vec<_>>().join(",")
}

fn parted(tags: &str) -> Result<Vec<Tag>, StoreError> {
    let tags = tags.split(',').filter(|tag| !tag.is_empty());
    tags.map(|tag| tag.parse().map_err(|_| StoreError::Damaged { action: ENROL })).collect()
}

type TokenRow = (i64, Option<i64>, Option<i64>, String);
type DeviceRow = (i64, i64, Vec<u8>, Option<i64>, String);

async fn enrol(
    transaction: &mut Transaction<'_, Db>,
    applicant: Applicant<'_>,
    now: u64,
) -> Result<Result<Enrolled, Denied>, StoreError> {
    let fail = query(ENROL);
    let Applicant { peer, name, token } = applicant;
    let device: Option<DeviceRow> =
        sqlx::query_as("SELECT epoch, enrolled, token, revoked, tags FROM devices WHERE peer = ?")
            .bind(&peer.as_bytes()[..])
            .fetch_optional(&mut **transaction)
            .await
            .map_err(&fail)?;
    if let Some((epoch, enrolled, with, None, tags)) = &device
        && with[..] == token[..]
    {
        let (enrolled, epoch, tags) = (time(*enrolled)?, time(*epoch)?, parted(tags)?);
        sqlx::query("UPDATE devices SET name = ? WHERE peer = ?")
            .bind(name)
            .bind(&peer.as_bytes()[..])
            .execute(&mut **transaction)
            .await
            .map_err(&fail)?;
        return Ok(Ok(Enrolled { peer, name: name.to_owned(), enrolled, epoch, tags }));
    }
    let found: Option<TokenRow> =
        sqlx::query_as("SELECT created, expires, uses_left, tags FROM tokens WHERE hash = ?")
            .bind(&token[..])
            .fetch_optional(&mut **transaction)
            .await
            .map_err(&fail)?;
    let Some((created, expires, uses_left, tags)) = found else { return Ok(Err(Denied::Token)) };
    if expires.is_some_and(|expires| int(now) > expires) || uses_left.is_some_and(|uses| uses < 1) {
        return Ok(Err(Denied::Token));
    }
    if let Some((.., Some(revoked), _)) = device
        && created <= revoked
    {
        return Ok(Err(Denied::Revoked));
    }
    sqlx::query("UPDATE tokens SET uses_left = uses_left - 1 WHERE hash = ? AND uses_left IS NOT NULL")
        .bind(&token[..])
        .execute(&mut **transaction)
        .await
        .map_err(&fail)?;
    sqlx::query("DELETE FROM devices WHERE peer = ?")
        .bind(&peer.as_bytes()[..])
        .execute(&mut **transaction)
        .await
        .map_err(&fail)?;
    let (epoch,): (i64,) = sqlx::query_as(
        "INSERT INTO devices (peer, name, enrolled, token, tags) VALUES (?, ?, ?, ?, ?) RETURNING epoch",
    )
    .bind(&peer.as_bytes()[..])
    .bind(name)
    .bind(int(now))
    .bind(&token[..])
    .bind(&tags)
    .fetch_one(&mut **transaction)
    .await
    .map_err(&fail)?;
    let (epoch, tags) = (time(epoch)?, parted(&tags)?);
    Ok(Ok(Enrolled { peer, name: name.to_owned(), enrolled: now, epoch, tags }))
}
