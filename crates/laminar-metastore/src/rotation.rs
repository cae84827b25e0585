//! A new key for everything that is sealed, in one transaction: afterwards the old key opens nothing any more.
//!
//! The rule that must stay true: what is sealed where is asked of `objects`, so a column that is sealed there is sealed anew
//! here. Servers that still have the old key read nothing sealed anew; they are to be stopped before.

use laminar_core::Result;
use laminar_core::time::SharedClock;

use crate::SecretKey;
use crate::objects::{place, read_kind};
use crate::store::{KEY_CHECK, Store};

/// Seals everything in the database at `url` with `new` instead of `old`; returns how many objects there were.
///
/// Errors: as [`crate::connect`] with the old key; then nothing is changed.
pub async fn rotate(url: &str, old: SecretKey, new: &SecretKey, clock: SharedClock) -> Result<u64> {
    let store = Store::open(url, old, clock).await?;
    let rotated = store.seal_anew(new).await;
    store.database.close().await;
    rotated
}

impl Store {
    async fn seal_anew(&self, new: &SecretKey) -> Result<u64> {
        let mut tx = self.database.begin().await?;
        let rows = tx.fetch("SELECT * FROM objects ORDER BY id", &[]).await?;
        let mut count = 0;
        for row in &rows {
            let kind = read_kind(row)?;
            if !kind.is_sealed() {
                continue;
            }
            let id = row.text("id")?;
            let anew = |column: &str, text: &str| new.seal(&place(column, &id), text);
            let definition = anew("definition", &self.open_column(kind, "definition", row)?)?;
            let statement = anew("statement", &self.open_column(kind, "statement", row)?)?;
            let secret = match row.optional_text("secret")? {
                Some(sealed) => Some(anew("secret", &self.key.open(&place("secret", &id), &sealed)?)?),
                None => None,
            };
            let sql = "UPDATE objects SET definition = $2, statement = $3, secret = $4 WHERE id = $1";
            tx.execute(sql, &[id.as_str().into(), definition.into(), statement.into(), secret.into()]).await?;
            count += 1;
        }
        let check = new.seal(KEY_CHECK, "laminar")?;
        tx.execute("UPDATE settings SET value = $1 WHERE name = 'key_check'", &[check.into()]).await?;
        tx.commit().await?;
        Ok(count)
    }
}
